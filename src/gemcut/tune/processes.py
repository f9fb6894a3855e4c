"""The processes of a run, connected: what they must agree on, and what only the first one writes."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gemcut.errors import BackendError, GemcutError, UsageError
from gemcut.tune.cluster import ALONE, Cluster, ClusterFlags, init_cluster
from gemcut.tune.run_checkpoint import CheckpointFolder, RunCheckpoint
from gemcut.tune.run_log import RunLog

END_SECONDS = 5


class Processes:
    """A run of one process; the others override `gathered`.

    Args:
        cluster: Which process this is.
    """

    def __init__(self, cluster: Cluster = ALONE) -> None:
        self.cluster = cluster

    @property
    def is_main(self) -> bool:
        """Whether this process writes what the run leaves."""
        return self.cluster.is_main

    def gathered(self, numbers: Sequence[int]) -> np.ndarray:
        """int32 (processes, numbers): what each process gave; all wait for one another here."""
        return np.array([numbers], np.int32)

    def any(self, flag: bool) -> bool:
        """Whether it is so in one of the processes."""
        return bool(self.gathered([int(flag)]).any())

    def wait(self) -> None:
        """Go on when all have come here."""
        self.any(False)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What the processes compute together: that one of them ends is no fault of the others.

        Raises:
            BackendError: another process has ended, or cannot be reached any more.
        """
        try:
            yield
        except BaseException as problem:
            is_alone = self.cluster.num_processes == 1
            if is_alone or isinstance(problem, GemcutError) or not _is_of_collectives(problem):
                self.leave_at_once(getattr(problem, "exit_code", 1))
                raise
            self.leave_at_once(BackendError.exit_code)
            number = f"process {self.cluster.process_id} of {self.cluster.num_processes}"
            raise BackendError(
                f"{number}: another one has ended or cannot be reached. Start all of them again with the same command; "
                f"the run goes on from its last checkpoint. ({' '.join(str(problem).split())[:200]})"
            ) from problem

    def leave_at_once(self, exit_code: int) -> None:
        """At the end of this process, wait for no other one."""

    def check_agreement(self, facts: Mapping[str, Any]) -> None:
        """Whether all processes begin at the same place.

        Args:
            facts: By name, whatever must be the same everywhere.

        Raises:
            UsageError: another process has another value.
        """
        digests = [hashlib.sha256(repr(value).encode()).digest()[:3] for value in facts.values()]
        found = self.gathered([int.from_bytes(digest, "big") for digest in digests])
        for name, column in zip(facts, found.T, strict=True):
            if (column != column[0]).any():
                raise UsageError(
                    f"process {self.cluster.process_id} of {self.cluster.num_processes}: {name} is {facts[name]!s:.80} "
                    "here and differs among the processes. All need the same command, and a --output that they share."
                )


class _JaxProcesses(Processes):
    def leave_at_once(self, exit_code: int) -> None:
        # Handlers are called in reverse order: this one comes before JAX's own, which waits, and then aborts.
        atexit.register(_leave, exit_code)

    def gathered(self, numbers: Sequence[int]) -> np.ndarray:
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(np.array(numbers, np.int32)))


class _TorchProcesses(Processes):
    def gathered(self, numbers: Sequence[int]) -> np.ndarray:
        import torch
        from torch import distributed

        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        parts = [torch.zeros(len(numbers), dtype=torch.int32, device=device) for _ in range(self.cluster.num_processes)]
        distributed.all_gather(parts, torch.tensor(list(numbers), dtype=torch.int32, device=device))
        return torch.stack(parts).cpu().numpy()


def connect(engine: str, flags: ClusterFlags | None = None) -> Processes:
    """The processes of this run, which can compute together from then on.

    Args:
        engine: "jax", "torch" or "tensorflow", on which nothing has been computed yet.
        flags: What the command line says of them.

    Raises:
        UsageError: flags or environment are incomplete, or the engine knows one process only.
        BackendError: the others cannot be reached.
    """
    started = {"jax": _started_jax, "torch": _started_torch}.get(engine, lambda: None)()
    cluster = init_cluster(os.environ, flags, started)
    if cluster.num_processes == 1:
        return Processes(cluster)
    if engine == "tensorflow":
        raise UsageError(
            f"{cluster.found}: names {cluster.num_processes} processes, but on tensorflow a run is one process. Use "
            "--engine jax or torch."
        )
    if not cluster.is_started:
        try:
            {"jax": _connect_jax, "torch": _connect_torch}[engine](cluster)
        except (RuntimeError, ValueError) as problem:
            raise BackendError(
                f"process {cluster.process_id} of {cluster.num_processes} ({cluster.found}): did not meet the others "
                f"at {cluster.coordinator}. {str(problem)[:300]}"
            ) from None
    return {"jax": _JaxProcesses, "torch": _TorchProcesses}[engine](cluster)


def _is_of_collectives(problem: BaseException) -> bool:
    """Whether an error is one of computing together: a backend's, which begins with the name of its kind."""
    is_status = isinstance(problem, ValueError) and re.match(r"[A-Z_]+: ", str(problem)) is not None
    return isinstance(problem, RuntimeError) or is_status


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _started_jax() -> Cluster | None:
    if "jax" not in sys.modules:
        return None
    import jax

    if not jax.distributed.is_initialized():
        return None
    return Cluster(None, jax.process_count(), jax.process_index(), "processes connected before", is_started=True)


def _started_torch() -> Cluster | None:
    if "torch" not in sys.modules:
        return None
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    size, rank = distributed.get_world_size(), distributed.get_rank()
    return Cluster(None, size, rank, "processes connected before", is_started=True)


def _connect_jax(cluster: Cluster) -> None:
    import jax

    with contextlib.suppress(AttributeError):  # a setting of later versions
        jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM, which asks a run to save
    # At the end of a run all have waited for one another; who is missing then is dead, and waiting longer is no use.
    known = inspect.signature(jax.distributed.initialize).parameters
    settings = {"shutdown_timeout_seconds": END_SECONDS} if "shutdown_timeout_seconds" in known else {}
    jax.distributed.initialize(cluster.coordinator, cluster.num_processes, cluster.process_id, **settings)


def _connect_torch(cluster: Cluster) -> None:
    import torch
    from torch import distributed

    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    distributed.init_process_group(
        "nccl" if has_gpu else "gloo",
        init_method=f"tcp://{cluster.coordinator}",
        world_size=cluster.num_processes,
        rank=cluster.process_id,
    )


class Bystander(CheckpointFolder):
    """The checkpoints of a run to a process that does not write them."""

    def save(self, checkpoint: RunCheckpoint, keep: int | None = None) -> Path:
        del keep
        return self.file(checkpoint.state.step)


class SilentLog(RunLog):
    """The log of a run to a process that does not write it."""

    def __init__(self) -> None:
        """Open nothing."""

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Leave it to the first process."""

    def close(self) -> None:
        """Nothing is open."""
