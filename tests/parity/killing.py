"""Runs of training that are killed at random moments and begun again: what the tests and the proof of resuming share."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "tune" / "reporting_run.py"
SETTINGS: dict[str, Any] = {
    "dtype": "float32",
    "samples": {"sequence_length": 64, "template": "plain"},
    "lora": {"rank": 4},
    "batch_size": 2,
    "accumulation": 2,
    "learning_rate": 0.01,
    "checkpoints": {"every": 3},
    "evaluation": {"share": 0.2, "every": 5},
}


def write_pairs(path: Path, number: int = 40) -> Path:
    """A JSONL file of prompts and completions."""
    lines = [
        json.dumps({"prompt": f"Say {index}: ", "completion": "hello " * (1 + index % 3)}) for index in range(number)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


class Job:
    """A run of `reporting_run.py` on the tiny model, in as many processes as a subclass starts.

    Args:
        engine: What computes.
        model, data: The base model's folder, and a file of samples.
        changes: Of SETTINGS.
    """

    def __init__(self, engine: str, model: Path, data: Path, **changes: Any) -> None:
        self._arguments = [sys.executable, str(SCRIPT), engine, str(model), str(data)]
        self._changes = json.dumps(SETTINGS | changes)

    def command(self, folder: Path) -> list[str]:
        """The command of a process that begins the run in a folder, or goes on with it."""
        return [*self._arguments, str(folder), self._changes]


class Run(Job):
    """One process."""

    def start(self, folder: Path) -> subprocess.Popen[str]:
        """Begin the run in a folder, or go on with it."""
        return subprocess.Popen(self.command(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, folder: Path) -> bytes:
        """Let it come to its end; the adapter's bytes."""
        with self.start(folder) as process:
            output, errors = process.communicate()
        assert output.endswith("done finished\n"), errors[-2000:]
        return (folder / "adapter" / "adapter_model.safetensors").read_bytes()

    def kill(self, folder: Path, moments: random.Random) -> int | None:
        """Kill it without warning at a random moment of its work; the step that it was in, None where it was done."""
        lines_left, step = moments.randrange(2, 14), 0
        with self.start(folder) as process:
            for stage, number in _stages(process):
                if stage == "done":
                    return None
                step, lines_left = int(number), lines_left - 1
                if not lines_left:
                    time.sleep(moments.random() * 0.02)
                    process.kill()
                    return step
        raise AssertionError(f"the run ended by itself: {process.stderr and process.stderr.read()[-2000:]}")


def _stages(process: subprocess.Popen[str]) -> Iterator[tuple[str, str]]:
    assert process.stdout
    for line in process.stdout:
        stage, _, number = line.strip().partition(" ")
        yield stage, number
