"""What a run writes down as it goes: a line of JSON for each step and evaluation, and TensorBoard's events."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gemcut.errors import DataError, GemcutError
from gemcut.files import atomic_write_bytes
from gemcut.tune.tensorboard_events import EventWriter
from gemcut.tune.trackers import Tracker

LOG = "log.jsonl"
EVENTS = "tensorboard"
STEP, EVALUATION = "step", "evaluation"
_SHOWN = {
    STEP: {
        "loss": "train/loss",
        "learning_rate": "train/learning_rate",
        "gradient_norm": "train/gradient_norm",
        "tokens_per_second": "speed/tokens_per_second",
        "memory_bytes": "memory/bytes",
    },
    EVALUATION: {"loss": "held_out/loss"},
}


class RunLog:
    """The log of a run in its folder; what is written is on the disk at once.

    Args:
        run: The run's folder, which exists.
        step: Where the run goes on; what the log says of later steps goes, because they come again.
        trackers: Told the same figures as TensorBoard.
    """

    def __init__(self, run: Path, step: int = 0, trackers: Sequence[Tracker] = ()) -> None:
        self._trackers = trackers
        self.path = run / LOG
        kept = [entry for entry in read_log(run) if entry["step"] <= step] if self.path.exists() else []
        atomic_write_bytes(self.path, "".join(_line(entry) for entry in kept).encode())
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close()
        self._events = EventWriter(run / EVENTS, step + 1 if step else None)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Write what became known after a step.

        Raises:
            GemcutError: the disk is full.
        """
        try:
            self._file.write(_line({"kind": kind, "step": step, **values}))
            self._file.flush()
            shown = {tag: values[name] for name, tag in _SHOWN.get(kind, {}).items() if values.get(name) is not None}
            shown |= {f"tasks/{task}": score for task, score in values.get("tasks", {}).items()}
            self._events.write(step, shown)
            for tracker in self._trackers:
                tracker.write(step, shown)
        except OSError as problem:
            raise GemcutError(
                f"{self.path}: could not be written ({problem.strerror}). Free space, then give the same command again "
                "to go on from the last checkpoint."
            ) from None

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._events.close()


def read_log(run: Path) -> list[dict[str, Any]]:
    """The entries of a run's log; a last line that was cut off is left out.

    Raises:
        DataError: another line is not what `RunLog` writes.
    """
    path = run / LOG
    return list(_entries(path.read_text(encoding="utf-8").split("\n"), path))


def _entries(lines: list[str], path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines[:-1], 1):
        try:
            entry = json.loads(line)
            if not isinstance(entry["step"], int) or not isinstance(entry["kind"], str):
                raise ValueError("it has no step or kind")
        except (ValueError, KeyError, TypeError) as problem:
            raise DataError(f"{path}, line {number}: is no entry of a run ({problem}). The file is damaged.") from None
        yield entry


def _line(entry: Mapping[str, Any]) -> str:
    """An entry as JSON, where what is no number is null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in entry.items()
    }
    return json.dumps(finite, ensure_ascii=False) + "\n"
