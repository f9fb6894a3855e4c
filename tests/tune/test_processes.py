"""Runs in two processes: the losses of one process, and the same end after one of them was killed."""

from __future__ import annotations

import random
import signal

import numpy as np
import pytest
from killing import Run, write_pairs
from pairs import Pair

from gemcut.tune.run_checkpoint import CheckpointFolder
from gemcut.tune.run_log import read_log

pytestmark = [pytest.mark.backend, pytest.mark.keras]
LAYOUTS = {"jax": "fsdp", "torch": "data"}
NUM_STEPS = 16
SEED = 5


def losses_of(folder):
    return [entry["loss"] for entry in read_log(folder)]


@pytest.fixture(scope="module")
def files(engine, tmp_path_factory, write_tiny_model):
    if engine not in LAYOUTS:
        pytest.skip("on TensorFlow a run is one process; that it says so is tested without an engine")
    folder = tmp_path_factory.mktemp("pair")
    return engine, write_tiny_model(folder / "tiny"), write_pairs(folder / "pairs.jsonl")


@pytest.fixture(scope="module")
def pair(files):
    return Pair(*files, steps=NUM_STEPS, devices={"layout": LAYOUTS[files[0]]})


@pytest.fixture(scope="module")
def undisturbed(pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    return folder, pair.finish(folder)


def test_losses_are_those_of_one_process(files, undisturbed, tmp_path):
    Run(*files, steps=NUM_STEPS).finish(tmp_path / "run")
    np.testing.assert_allclose(losses_of(undisturbed[0]), losses_of(tmp_path / "run"), rtol=1e-5, atol=0)


def test_one_is_killed(pair, undisturbed, tmp_path):
    moments, victim = random.Random(SEED), 1
    step, said = pair.stop(tmp_path / "run", victim, signal.SIGKILL, moments)
    assert "process 0 of 2: another one has ended or cannot be reached. Start all" in said[1 - victim]
    assert pair.finish(tmp_path / "run") == undisturbed[1], f"killed in step {step}"


def test_one_is_told_to_end(pair, tmp_path):
    _, said = pair.stop(tmp_path / "run", 1, signal.SIGTERM, random.Random(SEED))
    assert all("done interrupted\n" in text for text in said), said
    assert CheckpointFolder(tmp_path / "run").steps()
