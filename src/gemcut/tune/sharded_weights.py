"""Weights from a checkpoint straight into the parts that devices hold: no device ever has all of a split tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gemcut.checkpoint import Checkpoint
from gemcut.checkpoint.lazy_tensor import DTYPES
from gemcut.config import DecoderConfig
from gemcut.config.parameters import EMBEDDING, FINAL_NORM, OUTPUT_HEAD, fused_layer_shapes, parameter_shapes
from gemcut.tune.layout import Placement

Index = tuple[slice, ...]
Place = Callable[[str, tuple[int, ...], Callable[[Index], np.ndarray]], Any]
RowRange = tuple[str, int, int]


class PartsOf:
    """A tensor of a checkpoint that is read in parts, by indexing.

    Args:
        checkpoint: Where it is.
        names: Tensors whose rows it stacks.
        dtype: Type of what is read.
    """

    def __init__(self, checkpoint: Checkpoint, names: tuple[str, ...], dtype: str = "float32") -> None:
        self._checkpoint, self._names, self._dtype = checkpoint, names, dtype
        self._rows = [checkpoint.tensors[name].shape[0] for name in names]
        self.shape: tuple[int, ...] = (sum(self._rows), *checkpoint.tensors[names[0]].shape[1:])

    def __getitem__(self, index: Index) -> np.ndarray:
        first, last, _ = index[0].indices(self.shape[0])
        ranges, begin = list[RowRange](), 0
        for name, rows in zip(self._names, self._rows, strict=True):
            low, high = max(first, begin), min(last, begin + rows)
            if low < high:
                ranges.append((name, low - begin, high - begin))
            begin += rows
        return read_rows(self._checkpoint, ranges, self._dtype)[:, index[1]] if len(index) == 2 else read_rows(
            self._checkpoint, ranges, self._dtype
        )  # fmt: skip


def read_rows(checkpoint: Checkpoint, ranges: list[RowRange], dtype: str) -> np.ndarray:
    """Rows [first, last) of tensors under one another, in a type."""
    columns = checkpoint.tensors[ranges[0][0]].shape[1:]
    values = np.empty((sum(last - first for _, first, last in ranges), *columns), DTYPES[dtype])
    begin = 0
    for name, first, last in ranges:
        end = begin + last - first
        tensor = checkpoint.tensors[name]
        whole = (first, last) == (0, tensor.shape[0])
        (tensor if whole else tensor.rows(first, last)).read(dtype, out=values[begin:end])
        begin = end
    return values


def stacked_shapes(placement: Placement) -> dict[str, tuple[int, ...]]:
    """Shapes of a layer's stacked tensors over all devices: key heads that several devices use are there several times.

    Returns:
        By their name inside the layer.
    """
    config, own = placement.config, fused_layer_shapes(placement.own_config)
    shapes = {name: shape for name, (shape, _) in fused_layer_shapes(config).items()}
    for name, (shape, _) in own.items():
        if placement.split_by_part(name, shapes[name]):
            shapes[name] = (shape[0] * placement.num_parts, *shape[1:])
    return shapes


def frozen_tree(checkpoint: Checkpoint, placement: Placement, dtype: str, place: Place) -> dict[str, Any]:
    """The decoder's tensors as `Decoder.tree()` has them, each device's parts read for it alone.

    Args:
        checkpoint: The base model.
        placement: Where tensors lie.
        dtype: Compute type.
        place: Makes a tensor: called with its name inside the layer, its shape, and what reads a part of it.
    """
    config = checkpoint.config
    shapes = parameter_shapes(config)
    head = EMBEDDING if config.tie_word_embeddings else OUTPUT_HEAD

    def outer(name: str) -> Any:
        return place(name, shapes[name], PartsOf(checkpoint, (name,), dtype).__getitem__)

    tree = {"embedding": outer(EMBEDDING), "final_norm": outer(FINAL_NORM)}
    tree["head"] = tree["embedding"] if head == EMBEDDING else outer(OUTPUT_HEAD)
    layers = range(config.num_hidden_layers)
    return tree | {"layers": [_layer(checkpoint, placement, index, dtype, place) for index in layers]}


def _layer(checkpoint: Checkpoint, placement: Placement, layer_index: int, dtype: str, place: Place) -> dict[str, Any]:
    config, shapes = placement.config, stacked_shapes(placement)
    tensors = {}
    for name, (_, parts) in fused_layer_shapes(config).items():
        names = tuple(f"model.layers.{layer_index}.{part}" for part in parts)
        if placement.split_by_part(name, shapes[name]):
            read = _reader_by_part(checkpoint, placement, names, shapes[name][0], dtype)
        else:
            read = PartsOf(checkpoint, names, dtype).__getitem__
        tensors[name] = place(name, shapes[name], read)
    return tensors


def _reader_by_part(
    checkpoint: Checkpoint, placement: Placement, names: tuple[str, ...], num_rows: int, dtype: str
) -> Callable[[Index], np.ndarray]:
    """Reads a device's part of a stack: its part of each stacked matrix."""

    def read(index: Index) -> np.ndarray:
        part = index[0].indices(num_rows)[0] * placement.num_parts // num_rows
        ranges = [
            (name, *placement.rows_of_part(name, checkpoint.tensors[name].shape[0], part)) for name in names
        ]  # fmt: skip
        return read_rows(checkpoint, ranges, dtype)

    return read


def own_sizes(config: DecoderConfig, placement: Placement) -> dict[str, tuple[int, ...]]:
    """Shapes of all of a layer's tensors, stacked ones included, by their name inside the layer."""
    prefix = "model.layers.0."
    single = {
        name.removeprefix(prefix): shape for name, shape in parameter_shapes(config).items() if name.startswith(prefix)
    }
    return single | stacked_shapes(placement)
