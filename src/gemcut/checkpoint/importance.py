"""Importance files: how large the inputs are that each column of a matrix meets, in llama.cpp's GGUF form.

For every matrix two float32 tensors: "NAME.in_sum2", the sum of squares of each input channel over the tokens of a
calibration text, and "NAME.counts", the number of tokens. Both tools read what the other wrote.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gemcut.checkpoint.gguf_file import read_gguf
from gemcut.checkpoint.gguf_writer import gguf_header, padding
from gemcut.checkpoint.names import target_placements
from gemcut.checkpoint.stored import StoredTensor
from gemcut.config import DecoderConfig
from gemcut.config.parameters import parameter_shapes
from gemcut.errors import CheckpointError
from gemcut.files import atomic_write_bytes

_SUMS, _COUNTS = ".in_sum2", ".counts"


@dataclasses.dataclass(frozen=True)
class Importance:
    """Sums over a calibration text.

    Attributes:
        sums: float32 (columns,) by our tensor names: sum of squares of each input channel.
        num_tokens: Tokens that were added up.
        window_tokens: Tokens the model saw at once.
        text: What the calibration text is called.
    """

    sums: Mapping[str, np.ndarray]
    num_tokens: int
    window_tokens: int
    text: str

    def mean_squares(self) -> dict[str, np.ndarray]:
        """Mean square of each input channel, float32 (columns,), what `quantize` takes."""
        return {name: (sums / np.float32(self.num_tokens)).astype(np.float32) for name, sums in self.sums.items()}


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One tensor of the file, in GGUF's names."""

    name: str
    values: np.ndarray
    stored_type: str = "F32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def num_bytes(self) -> int:
        return self.values.nbytes


def write_importance(path: Path, importance: Importance, config: DecoderConfig) -> None:
    """Write an importance file, whole or not at all.

    Args:
        path: The GGUF file.
        importance: What was collected.
        config: The decoder whose tensors they are.
    """
    places = target_placements("gguf", config)
    count = np.full(1, importance.num_tokens, np.float32)
    entries = []
    for name, sums in importance.sums.items():
        entries.append(_Entry(places[name].source + _SUMS, sums.astype("<f4")))
        entries.append(_Entry(places[name].source + _COUNTS, count))
    metadata = {
        "general.type": "imatrix",
        "imatrix.datasets": [importance.text],
        "imatrix.chunk_count": importance.num_tokens // importance.window_tokens,
        "imatrix.chunk_size": importance.window_tokens,
    }
    parts = [gguf_header(metadata, entries)]
    for entry in entries:
        parts += [entry.values.tobytes(), bytes(padding(entry.num_bytes))]
    atomic_write_bytes(path, b"".join(parts))


def read_importance(path: Path, config: DecoderConfig) -> dict[str, np.ndarray]:
    """Mean square of each input channel by our tensor names, float32 (columns,), from an importance file.

    Args:
        path: A GGUF file that `gemcut calibrate` or llama-imatrix wrote.
        config: The decoder that will be quantised.

    Raises:
        CheckpointError: it is no importance file, is damaged, or belongs to another model.
    """
    metadata, stored = read_gguf(path)
    if metadata.get("general.type") != "imatrix":
        raise CheckpointError(
            f'{path}: general.type is {metadata.get("general.type", "missing")!r}, expected "imatrix". '
            "Make an importance file with gemcut calibrate."
        )
    ours = {place.source: name for name, place in target_placements("gguf", config).items()}
    shapes = parameter_shapes(config)
    result = {}
    for stored_name, tensor in stored.items():
        if not stored_name.endswith(_SUMS):
            continue
        source = stored_name.removesuffix(_SUMS)
        if source == "output.weight" and source not in ours:
            source = "token_embd.weight"  # the head of a tied model under its graph's name
        if source not in ours:
            raise CheckpointError(f'{path}: "{source}" is no tensor of this model. Calibrate this model, not another.')
        columns = shapes[ours[source]][-1]
        count = stored.get(stored_name.removesuffix(_SUMS) + _COUNTS)
        if count is None:
            raise CheckpointError(f'{path}: "{stored_name}" has no counts beside it. The file is damaged.')
        sums, tokens = _floats(tensor, columns, path), _floats(count, 1, path)[0]
        if not (np.isfinite(sums).all() and (sums >= 0).all() and tokens > 0):
            raise CheckpointError(
                f'{path}: "{stored_name}" has sums that are negative or not finite, or counts no tokens. '
                "Calibrate again, on a longer text."
            )
        result[ours[source]] = sums / tokens
    return result


def _floats(tensor: StoredTensor, count: int, path: Path) -> np.ndarray:
    """The `count` float32 of a tensor."""
    if tensor.stored_type != "F32" or tensor.raw is None or tensor.raw.size != 4 * count:
        raise CheckpointError(
            f'{path}: "{tensor.name}" is {tensor.stored_type} {tensor.shape}, expected {count} numbers in F32. '
            "Calibrate this model, not another."
        )
    return tensor.raw.view("<f4").astype(np.float32).reshape(count)
