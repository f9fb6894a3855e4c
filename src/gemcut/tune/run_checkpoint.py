"""Checkpoints of a run: one file each, whole or not there, with all that it takes to go on bit for bit."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gemcut.checkpoint.recoding import own_tensor
from gemcut.checkpoint.safetensors_file import read_metadata, read_safetensors
from gemcut.checkpoint.safetensors_writer import safetensors_header
from gemcut.checkpoint.stored import StoredTensor
from gemcut.errors import CheckpointError, GemcutError
from gemcut.files import parse_json
from gemcut.tune.train_state import TrainState

FOLDER = "checkpoints"
FORMAT = "1"
_FILE = re.compile(r"step-(\d{8,})\.safetensors")
_LEFTOVER = re.compile(r"\.step-\d{8,}\.safetensors\.[0-9a-f]{16}\.tmp")


@dataclasses.dataclass(frozen=True)
class RunCheckpoint:
    """Where a run stands.

    Attributes:
        state: What is trained, and the optimiser's part.
        cursor: Where it stands in the data, see `Batches.cursor`.
        progress: What the trainer remembers besides: evaluations, the best step.
        facts: What must stay the same for the run to go on: digests of recipe and base model; and what must for it to
            go on bit for bit: engine, type, threads, versions.
    """

    state: TrainState
    cursor: dict[str, Any]
    progress: dict[str, Any]
    facts: dict[str, Any]


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        run: The run's folder.
        keep_last: The newest that are kept.
    """

    def __init__(self, run: Path, keep_last: int = 2) -> None:
        self.path, self._keep_last = run / FOLDER, keep_last

    def steps(self) -> list[int]:
        """Steps after which there is a checkpoint, oldest first."""
        names = os.listdir(self.path) if self.path.is_dir() else []
        return sorted(int(match[1]) for name in names if (match := _FILE.fullmatch(name)))

    def file(self, step: int) -> Path:
        """Where the checkpoint after a step lies, or would."""
        return self.path / f"step-{step:08d}.safetensors"

    def save(self, checkpoint: RunCheckpoint, keep: int | None = None) -> Path:
        """Write a checkpoint, then remove those that are not to be kept.

        Args:
            checkpoint: What to write; one of the same step is replaced.
            keep: A step whose checkpoint stays, however old it is; None for none.

        Raises:
            GemcutError: the disk is full or not writable; nothing is left of this checkpoint, the others are intact.
        """
        path = self.file(checkpoint.state.step)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            _write(path, checkpoint)
        except OSError as problem:
            kept = self.steps()
            left = f"the one of step {kept[-1]} is intact" if kept else "there is no earlier one"
            raise GemcutError(
                f"{path}: the checkpoint could not be written ({problem.strerror}); {left}. Free space, then give the "
                "same command again to go on."
            ) from None
        for step in self.steps()[: -self._keep_last]:
            if step != keep:
                self.file(step).unlink(missing_ok=True)
        return path

    def load(self, step: int) -> RunCheckpoint:
        """The checkpoint after a step.

        Raises:
            NotFoundError: there is none.
            CheckpointError: it is damaged, or of another version.
        """
        path = self.file(step)
        metadata = read_metadata(path)
        if metadata.get("gemcut.run") != FORMAT:
            raise CheckpointError(
                f"{path}: is no checkpoint of a run, or of another version of Gemcut, expected format {FORMAT}. "
                "Begin a new run."
            )
        about = parse_json(metadata.get("gemcut.about", "").encode(), str(path))
        state = _state(read_safetensors(path), step, path)
        return RunCheckpoint(state, about["cursor"], about["progress"], about["facts"])

    def latest(self) -> RunCheckpoint | None:
        """The newest checkpoint; None where there is none. Raises as `load` does."""
        steps = self.steps()
        if not steps:
            return None
        try:
            return self.load(steps[-1])
        except CheckpointError as problem:
            older = f"delete it to go on from step {steps[-2]}" if len(steps) > 1 else "begin a new run"
            raise CheckpointError(f"{self.file(steps[-1])}: {problem} Or {older}.") from None

    def _remove_leftovers(self) -> None:
        """Remove what a killed run was writing."""
        for name in os.listdir(self.path):
            if _LEFTOVER.fullmatch(name):
                (self.path / name).unlink(missing_ok=True)


def _named(state: TrainState) -> Iterator[tuple[str, np.ndarray]]:
    """Every array of a state under a name that says what it is."""
    for name, values in state.trained.items():
        yield f"trained/{name}", values
        for slot, kept in state.slots[name].items():
            yield f"slot/{slot}/{name}", kept


def _write(path: Path, checkpoint: RunCheckpoint) -> None:
    tensors = [own_tensor(name, values, path.name) for name, values in _named(checkpoint.state)]
    about = {"cursor": checkpoint.cursor, "progress": checkpoint.progress, "facts": checkpoint.facts}
    header = safetensors_header(tensors, {"gemcut.run": FORMAT, "gemcut.about": json.dumps(about, sort_keys=True)})
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(header)
            for tensor in tensors:
                file.write(tensor.tensor.raw.data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _sync(folder: Path) -> None:
    """Wait until a folder's entries are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _state(stored: Mapping[str, StoredTensor], step: int, path: Path) -> TrainState:
    trained: dict[str, np.ndarray] = {}
    slots: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in stored.items():
        kind, _, rest = name.partition("/")
        if tensor.raw is None or tensor.stored_type != "F32" or kind not in ("trained", "slot"):
            raise CheckpointError(f'{path}: "{name:.120}" is no float32 tensor of a run. The file is damaged.')
        values = np.frombuffer(tensor.raw.tobytes(), np.float32).reshape(tensor.shape)
        if kind == "trained":
            trained[rest] = values
            slots.setdefault(rest, {})
        else:
            slot, _, name = rest.partition("/")
            slots.setdefault(name, {})[slot] = values
    return TrainState(step, trained, slots)
