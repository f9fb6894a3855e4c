"""A run that is killed at random moments ends with the adapter of the undisturbed run, bit for bit."""

from __future__ import annotations

import random
import signal
import subprocess
import sys

import pytest
from killing import SETTINGS, Run, write_pairs

from gemcut.tune.recipe import Recipe
from gemcut.tune.run_checkpoint import CheckpointFolder

pytestmark = [pytest.mark.backend, pytest.mark.keras]
KILLS = {"jax": 3}  # on the others one; starting a process is what takes long. The proof kills 20 and 5 times.
SEED = 7


@pytest.fixture(scope="module")
def run(engine, tmp_path_factory, write_tiny_model):
    folder = tmp_path_factory.mktemp("resume")
    return Run(engine, write_tiny_model(folder / "tiny"), write_pairs(folder / "pairs.jsonl"), steps=24)


@pytest.fixture(scope="module")
def undisturbed(run, tmp_path_factory):
    """The adapter of a run that nobody disturbed."""
    return run.finish(tmp_path_factory.mktemp("undisturbed") / "run")


def test_killed_without_warning(run, undisturbed, tmp_path, engine):
    moments, steps = random.Random(SEED), []
    for _ in range(KILLS.get(engine, 1)):
        steps.append(run.kill(tmp_path / "run", moments))
    assert run.finish(tmp_path / "run") == undisturbed, f"killed in steps {steps}"


def test_told_to_end_it_saves_and_says_so_by_its_exit_code(engine, tmp_path, write_tiny_model):
    recipe = Recipe.from_dict(
        SETTINGS
        | {"model": "tiny", "data": ["pairs.jsonl"], "engine": engine, "steps": 300, "checkpoints": {"every": 999}}
    )
    write_tiny_model(tmp_path / "tiny")
    write_pairs(tmp_path / "pairs.jsonl")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    command = [sys.executable, "-m", "gemcut", "tune", "recipe.yaml", "--output", "run"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("step "):
                process.send_signal(signal.SIGTERM)
    assert (process.returncode, lines[-1]) == (
        75,
        f"Interrupted after {steps_of(tmp_path)} of 300 steps. All is saved in run; give the same command again to go "
        "on.\n",
    )
    assert any("Stopping after this step" in line for line in lines)
    assert 1 <= steps_of(tmp_path) < 300


def steps_of(folder):
    return CheckpointFolder(folder / "run").steps()[-1]
