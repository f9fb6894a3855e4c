"""Which process of a run this is, as each launcher says it in the environment."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gemcut.errors import BackendError, UsageError
from gemcut.tune.cluster import ALONE, Cluster, ClusterFlags, init_cluster
from gemcut.tune.host_list import hosts_of
from gemcut.tune.processes import Processes, connect

SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NODELIST": "tpu-[03,07-09]",
}
TORCHRUN = {
    "MASTER_ADDR": "10.0.0.5",
    "MASTER_PORT": "29500",
    "WORLD_SIZE": "2",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "TORCHELASTIC_RUN_ID": "none",
}
RAY_TORCH = {name: value for name, value in TORCHRUN.items() if name != "TORCHELASTIC_RUN_ID"}
TF_CONFIG = {"cluster": {"worker": ["w0:2222", "w1:2222"], "chief": ["c:2222"]}, "task": {"type": "worker", "index": 1}}
VERTEX = {
    "cluster": {
        "workerpool0": ["cmle-training-workerpool0-ab-0:2222"],
        "workerpool1": ["cmle-training-workerpool1-ab-0:2222", "cmle-training-workerpool1-ab-1:2222"],
    },
    "environment": "cloud",
    "task": {"type": "workerpool1", "index": 0, "trial": "TRIAL_ID"},
    "job": "...",
}
SKYPILOT = {
    "SKYPILOT_NODE_RANK": "1",
    "SKYPILOT_NODE_IPS": "10.1.0.2\n10.1.0.3",
    "SKYPILOT_NUM_NODES": "2",
    "SKYPILOT_NUM_GPUS_PER_NODE": "8",
}
GKE_TPU = {"TPU_WORKER_ID": "3", "TPU_WORKER_HOSTNAMES": "t-0.t,t-1.t,t-2.t,t-3.t"}
MULTISLICE = GKE_TPU | {
    "MEGASCALE_NUM_SLICES": "2",
    "MEGASCALE_SLICE_ID": "1",
    "MEGASCALE_COORDINATOR_ADDRESS": "t-0-0.t:8081",
}
JOBSET = {
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    "JOB_COMPLETION_INDEX": "1",
    "JOBSET_NAME": "tune",
    "REPLICATED_JOB_NAME": "trainers",
    "GEMCUT_NUM_PODS": "2",
}
OURS = {"GEMCUT_COORDINATOR": "first", "GEMCUT_NUM_PROCESSES": "2", "GEMCUT_PROCESS_ID": "1"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({}, ALONE, id="nothing"),
        pytest.param(OURS, Cluster("first:8476", 2, 1, "GEMCUT_NUM_PROCESSES"), id="ours"),
        pytest.param(TORCHRUN, Cluster("10.0.0.5:29500", 2, 1, "torchrun"), id="torchrun"),
        pytest.param(RAY_TORCH, Cluster("10.0.0.5:29500", 2, 1, "WORLD_SIZE and RANK"), id="ray-torch"),
        pytest.param({"TF_CONFIG": json.dumps(TF_CONFIG)}, Cluster("c:2222", 3, 2, "TF_CONFIG"), id="tf-config"),
        pytest.param(
            {"CLUSTER_SPEC": json.dumps(VERTEX)},
            Cluster("cmle-training-workerpool0-ab-0:2222", 3, 1, "CLUSTER_SPEC"),
            id="vertex",
        ),
        pytest.param(
            {"CLUSTER_SPEC": json.dumps(VERTEX | {"open_ports": [3333]})},
            Cluster("cmle-training-workerpool0-ab-0:3333", 3, 1, "CLUSTER_SPEC"),
            id="vertex-open-port",
        ),
        pytest.param(SKYPILOT, Cluster("10.1.0.2:8476", 2, 1, "SkyPilot"), id="skypilot"),
        pytest.param(SLURM, Cluster("tpu-03:62055", 4, 2, "Slurm"), id="slurm"),
        pytest.param(
            {name: value for name, value in SLURM.items() if name != "SLURM_STEP_NODELIST"}, ALONE, id="slurm-batch-script"
        ),
        pytest.param(GKE_TPU, Cluster("t-0.t:8476", 4, 3, "a TPU slice of GKE"), id="gke-tpu"),
        pytest.param(MULTISLICE, Cluster("t-0-0.t:8476", 8, 7, "a TPU slice of GKE"), id="gke-tpu-slices"),
        pytest.param({"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "localhost"}, ALONE, id="one-tpu-host"),
        pytest.param(JOBSET, Cluster("tune-trainers-0-0.tune:8476", 2, 1, "a JobSet of Kubernetes"), id="jobset"),
        pytest.param(
            {"JOB_COMPLETION_INDEX": "0", "GEMCUT_NUM_PODS": "2", "GEMCUT_COORDINATOR": "tune-0.tune"},
            Cluster("tune-0.tune:8476", 2, 0, "an indexed job of Kubernetes"),
            id="indexed-job",
        ),
        pytest.param(TORCHRUN | {"WORLD_SIZE": "1", "RANK": "0"}, ALONE, id="torchrun-alone"),
        pytest.param(SLURM | TORCHRUN, Cluster("10.0.0.5:29500", 2, 1, "torchrun"), id="torchrun-inside-slurm"),
    ],
)  # fmt: skip
def test_environments(environment, expected):
    assert init_cluster(environment) == expected


def test_flags_come_before_everything():
    flags = ClusterFlags("[2001:db8::1]:99", 3, 2)
    assert init_cluster(TORCHRUN | SLURM, flags) == Cluster("[2001:db8::1]:99", 3, 2, "flags")


def test_processes_that_are_connected_already():
    started = Cluster(None, 2, 1, "processes connected before", is_started=True)
    assert init_cluster(SLURM, None, started) is started
    assert init_cluster(SLURM, ClusterFlags("there", 2, 1), started) is started
    with pytest.raises(UsageError, match=r"--process-id 0 of 2: this is process 1 of 2 that are connected already"):
        init_cluster({}, ClusterFlags("there", 2, 0), started)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        pytest.param(TORCHRUN | {"RANK": "2"}, "torchrun: process 2 of 2, expected a number from 0 to 1", id="rank"),
        pytest.param(TORCHRUN | {"RANK": "x"}, "RANK is 'x', expected a whole number", id="no-number"),
        pytest.param({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE is set, but MASTER_ADDR is not", id="no-address"),
        pytest.param({"TF_CONFIG": "{"}, "TF_CONFIG: is no JSON", id="no-json"),
        pytest.param({"TF_CONFIG": "[]"}, "TF_CONFIG: is list, expected an object", id="no-object"),
        pytest.param({"TF_CONFIG": "{}"}, "TF_CONFIG: its task is no member of its cluster", id="no-task"),
        pytest.param(SLURM | {"SLURM_STEP_NODELIST": "a[1-"}, r"SLURM_STEP_NODELIST: 'a\[1-' is no list", id="hosts"),
        pytest.param(
            MULTISLICE | {"MEGASCALE_COORDINATOR_ADDRESS": ""}, "MEGASCALE_COORDINATOR_ADDRESS is not", id="slices"
        ),
        pytest.param(
            {"GEMCUT_NUM_PROCESSES": "2"}, "GEMCUT_NUM_PROCESSES is set, but GEMCUT_COORDINATOR is not", id="ours"
        ),
    ],
)
def test_what_contradicts_itself(environment, says):
    with pytest.raises(UsageError, match=says):
        init_cluster(environment)


def test_flags_are_given_together():
    with pytest.raises(UsageError, match="--num-processes, --process-id: not given"):
        init_cluster({}, ClusterFlags("there"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("one", ["one"]),
        ("a,b-c", ["a", "b-c"]),
        ("n[08-11],x", ["n08", "n09", "n10", "n11", "x"]),
        ("r[1,3]n[0-1].local", ["r1n0.local", "r1n1.local", "r3n0.local", "r3n1.local"]),
    ],
)
def test_lists_of_hosts(text, names):
    assert hosts_of(text, "HOSTS") == names


@pytest.mark.parametrize("text", ["", "a[", "a[x-y]", "a[1-2", ","])
def test_what_is_no_list_of_hosts(text):
    with pytest.raises(UsageError, match="HOSTS: .* is no list of hosts"):
        hosts_of(text, "HOSTS")


class Disagreeing(Processes):
    """Two processes, of which the other one has other values."""

    def gathered(self, numbers):
        return np.array([numbers, [number + 1 for number in numbers]], np.int32)


def test_processes_that_begin_elsewhere_are_told():
    processes = Disagreeing(Cluster("here:1", 2, 1, "flags"))
    with pytest.raises(UsageError, match="process 1 of 2: step is 7 here and differs among the processes. All need"):
        processes.check_agreement({"step": 7})
    Processes().check_agreement({"step": 7})


def test_tensorflow_is_one_process(monkeypatch):
    for name, value in OURS.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="GEMCUT_NUM_PROCESSES: names 2 processes, but on tensorflow a run is one"):
        connect("tensorflow")


def test_processes_that_do_not_meet(monkeypatch):
    def fail(cluster):
        raise RuntimeError("DEADLINE_EXCEEDED: nobody is there")

    for name, value in OURS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("gemcut.tune.processes._connect_torch", fail)
    with pytest.raises(
        BackendError, match=r"process 1 of 2 \(GEMCUT_NUM_PROCESSES\): did not meet the others at first:8476"
    ):
        connect("torch")
