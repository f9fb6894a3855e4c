"""Which process of a run this is: what launchers and clusters say in the environment, read in one place."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from gemcut.errors import UsageError
from gemcut.tune.host_list import hosts_of

PORT = 8476  # of the coordinator, where nothing names one; JAX's own default
Environment = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of a run.

    Attributes:
        coordinator: HOST:PORT of process 0; None where there is one process, or where the engine finds it by itself.
        num_processes: All of them.
        process_id: This one's number, from 0.
        found: What said so, in words.
        is_started: Whether somebody has connected the processes already.
    """

    coordinator: str | None
    num_processes: int
    process_id: int
    found: str
    is_started: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this process writes log, checkpoints and reports."""
        return self.process_id == 0


ALONE = Cluster(None, 1, 0, "one process")


@dataclasses.dataclass(frozen=True)
class ClusterFlags:
    """What a command line says of the processes: all three, or none.

    Attributes:
        coordinator: HOST or HOST:PORT of process 0.
        num_processes: All of them.
        process_id: This one's number, from 0.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def init_cluster(
    environment: Environment, flags: ClusterFlags | None = None, started: Cluster | None = None
) -> Cluster:
    """Which process of a run this is.

    Flags come first; then processes that are connected already; then what the environment says: GEMCUT_*, torchrun,
    TF_CONFIG, Vertex, SkyPilot, Slurm, GKE's TPU slices, a Kubernetes JobSet or indexed job. Nothing is connected here.

    Args:
        environment: Variables of this process.
        flags: What the command line says.
        started: Processes that somebody has connected, as Ray Train does.

    Raises:
        UsageError: flags or variables are incomplete, or contradict each other.
    """
    if flags is not None and flags != ClusterFlags():
        named = _of_flags(flags)
        if started is None:
            return named
        if (started.num_processes, started.process_id) != (named.num_processes, named.process_id):
            raise UsageError(
                f"--process-id {named.process_id} of {named.num_processes}: this is process {started.process_id} of "
                f"{started.num_processes} that are connected already. Leave the flags out."
            )
    if started is not None:
        return _checked(started)
    for read in _READERS:
        if (found := read(environment)) is not None and _checked(found).num_processes > 1:
            return found
    return ALONE


def _of_flags(flags: ClusterFlags) -> Cluster:
    if flags.coordinator is None or flags.num_processes is None or flags.process_id is None:
        values = dataclasses.asdict(flags)
        missing = ", ".join(f"--{name.replace('_', '-')}" for name, value in values.items() if value is None)
        raise UsageError(f"{missing}: not given, expected with the other flags of several processes. Give all or none.")
    return _checked(Cluster(_with_port(flags.coordinator), flags.num_processes, flags.process_id, "flags"))


def _ours(environment: Environment) -> Cluster | None:
    if "GEMCUT_NUM_PROCESSES" not in environment:
        return None
    host = _needed(environment, "GEMCUT_COORDINATOR", "GEMCUT_NUM_PROCESSES")
    return Cluster(
        _with_port(host), _number(environment, "GEMCUT_NUM_PROCESSES"), _number(environment, "GEMCUT_PROCESS_ID"),
        "GEMCUT_NUM_PROCESSES",
    )  # fmt: skip


def _torchrun(environment: Environment) -> Cluster | None:
    """torchrun, and Ray Train's TorchTrainer, which sets the same."""
    if "WORLD_SIZE" not in environment or "RANK" not in environment:
        return None
    host = _needed(environment, "MASTER_ADDR", "WORLD_SIZE")
    port = _number(environment, "MASTER_PORT")
    found = "torchrun" if "TORCHELASTIC_RUN_ID" in environment else "WORLD_SIZE and RANK"
    return Cluster(f"{host}:{port}", _number(environment, "WORLD_SIZE"), _number(environment, "RANK"), found)


def _tensorflow(environment: Environment) -> Cluster | None:
    if "TF_CONFIG" not in environment:
        return None
    values = _json(environment, "TF_CONFIG")
    return _of_pools(values.get("cluster"), values.get("task"), "TF_CONFIG", ("chief", "worker"))


def _vertex(environment: Environment) -> Cluster | None:
    """Vertex AI's custom jobs: pool 0 has one replica, the others follow."""
    if "CLUSTER_SPEC" not in environment:
        return None
    values = _json(environment, "CLUSTER_SPEC")
    pools = values.get("cluster")
    names = tuple(sorted(pools)) if isinstance(pools, dict) else ()
    found = _of_pools(pools, values.get("task"), "CLUSTER_SPEC", names)
    port = values.get("open_ports") or values.get("openPorts")
    if found.coordinator and isinstance(port, list) and port:
        return dataclasses.replace(found, coordinator=f"{_host(found.coordinator)}:{port[0]}")
    return found


def _skypilot(environment: Environment) -> Cluster | None:
    if "SKYPILOT_NODE_RANK" not in environment:
        return None
    hosts = _needed(environment, "SKYPILOT_NODE_IPS", "SKYPILOT_NODE_RANK").split()
    return Cluster(_with_port(hosts[0]), len(hosts), _number(environment, "SKYPILOT_NODE_RANK"), "SkyPilot")


def _slurm(environment: Environment) -> Cluster | None:
    # Only inside `srun` there is a step; in a batch script, where all else is set too, there is one process.
    if not {"SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_NTASKS"} <= environment.keys():
        return None
    # Two jobs may share a host, so the port follows from the job, as JAX chooses it.
    port = _number(environment, "SLURM_JOB_ID") % (1 << 12) + (65535 - (1 << 12) + 1)
    host = hosts_of(environment["SLURM_STEP_NODELIST"], "SLURM_STEP_NODELIST")[0]
    return Cluster(
        f"{host}:{port}", _number(environment, "SLURM_NTASKS"), _number(environment, "SLURM_PROCID"), "Slurm"
    )  # fmt: skip


def _tpu_pod(environment: Environment) -> Cluster | None:
    """GKE's TPU slices, one or several: a process for each host."""
    names = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES", "")
    hosts = [name for name in names.split(",") if name]
    slices = _number(environment, "MEGASCALE_NUM_SLICES") if environment.get("MEGASCALE_NUM_SLICES") else 1
    if "TPU_WORKER_ID" not in environment or len(hosts) * slices < 2:
        return None
    first = environment.get("MEGASCALE_COORDINATOR_ADDRESS") if slices > 1 else hosts[0]
    if not first:
        raise UsageError(
            f"MEGASCALE_NUM_SLICES is {slices}, but MEGASCALE_COORDINATOR_ADDRESS is not set. Set it, or give "
            "--coordinator, --num-processes and --process-id."
        )
    number = _number(environment, "TPU_WORKER_ID")
    if slices > 1:
        number += _number(environment, "MEGASCALE_SLICE_ID") * len(hosts)
    return Cluster(f"{_host(first)}:{PORT}", len(hosts) * slices, number, "a TPU slice of GKE")


def _jobset(environment: Environment) -> Cluster | None:
    """A Kubernetes JobSet, whose first pod has a name that follows from the set's; or an indexed job with a service.

    The number of pods is in no variable that Kubernetes sets, so the manifest hands it over as GEMCUT_NUM_PODS.
    """
    if "JOB_COMPLETION_INDEX" not in environment or "GEMCUT_NUM_PODS" not in environment:
        return None
    count, index = _number(environment, "GEMCUT_NUM_PODS"), _number(environment, "JOB_COMPLETION_INDEX")
    if name := environment.get("JOBSET_NAME"):
        job = environment.get("REPLICATED_JOB_NAME", "workers")
        return Cluster(f"{name}-{job}-0-0.{name}:{PORT}", count, index, "a JobSet of Kubernetes")
    host = _needed(environment, "GEMCUT_COORDINATOR", "JOB_COMPLETION_INDEX")
    return Cluster(_with_port(host), count, index, "an indexed job of Kubernetes")


_READERS: tuple[Callable[[Environment], Cluster | None], ...] = (
    _ours, _torchrun, _tensorflow, _vertex, _skypilot, _slurm, _tpu_pod, _jobset,
)  # fmt: skip


def _of_pools(pools: Any, task: Any, variable: str, order: tuple[str, ...]) -> Cluster:
    """The processes of named pools of hosts, one pool after the other.

    Args:
        pools: Hosts by pool.
        task: Pool ("type") and number in it ("index") of this process.
        variable: Where this stands.
        order: Pools in the order of processes; others, such as those of evaluators, take no part.
    """
    try:
        hosts = [(name, index, host) for name in order if name in pools for index, host in enumerate(pools[name])]
        own = task["type"], int(task["index"])
        number = next(number for number, (*place, _) in enumerate(hosts) if tuple(place) == own)
    except (KeyError, TypeError, ValueError, StopIteration):
        raise UsageError(
            f"{variable}: its task is no member of its cluster, expected pools of hosts under {' or '.join(order)!r} "
            "and a task with type and index. Correct it, or give --coordinator, --num-processes and --process-id."
        ) from None
    return Cluster(_with_port(hosts[0][2]), len(hosts), number, variable)


def _checked(cluster: Cluster) -> Cluster:
    if not 0 <= cluster.process_id < cluster.num_processes:
        raise UsageError(
            f"{cluster.found}: process {cluster.process_id} of {cluster.num_processes}, expected a number from 0 to "
            f"{cluster.num_processes - 1}."
        )
    return cluster


def _json(environment: Environment, variable: str) -> dict[str, Any]:
    try:
        values = json.loads(environment[variable])
    except ValueError as problem:
        raise UsageError(f"{variable}: is no JSON ({problem}). Correct it, or unset it.") from None
    if not isinstance(values, dict):
        raise UsageError(f"{variable}: is {type(values).__name__}, expected an object. Correct it, or unset it.")
    return values


def _needed(environment: Environment, variable: str, because: str) -> str:
    if not environment.get(variable):
        raise UsageError(
            f"{because} is set, but {variable} is not. Set it, or give --coordinator, --num-processes and --process-id."
        )
    return environment[variable]


def _number(environment: Environment, variable: str) -> int:
    text = environment.get(variable, "")
    if not re.fullmatch(r"\d{1,9}", text):
        raise UsageError(f"{variable} is {text!r}, expected a whole number. Correct it, or unset what launched this.")
    return int(text)


def _host(address: str) -> str:
    """An address without its port."""
    return re.sub(r":\d+$", "", address) if address.count(":") == 1 or address.startswith("[") else address


def _with_port(address: str) -> str:
    """An address with a port, PORT where it names none; IPv6 in brackets."""
    if address.count(":") > 1 and not address.startswith("["):
        return f"[{address}]:{PORT}"
    return address if re.search(r"[^:]:\d+$", address) else f"{address}:{PORT}"
