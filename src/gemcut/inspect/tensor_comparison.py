"""Two checkpoints tensor by tensor: what only one of them has, and how far the values of the others lie apart."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from gemcut.checkpoint import LazyTensor
from gemcut.checkpoint.names import Transform
from gemcut.checkpoint.tensor_stream import Progress
from gemcut.config.parameters import EMBEDDING, OUTPUT_HEAD

# 4 MiB of float32 for each side: both, and what is made of them, stay in the caches.
_CHUNK_VALUES = 1 << 20


@dataclasses.dataclass(frozen=True)
class TensorErrors:
    """How far one tensor of two checkpoints lies apart, both read as float32.

    Attributes:
        name: Ours.
        shape: The same in both.
        type_a, type_b: How it is stored.
        max_error: Largest absolute difference.
        relative_rms_error: RMS of the difference over that of the larger side, from 0 to 2.
        changed_share: Share of the values that are not equal.
        max_value: Largest absolute value of either side.
        adds_one: Whether one side stores 1 + w, and so rounds w to a float32 near 1.
    """

    name: str
    shape: tuple[int, ...]
    type_a: str
    type_b: str
    max_error: float
    relative_rms_error: float
    changed_share: float
    max_value: float
    adds_one: bool


@dataclasses.dataclass(frozen=True)
class TensorAccount:
    """Every tensor of two checkpoints, under our names.

    Attributes:
        only_in_a, only_in_b: Names that the other one lacks.
        shapes: (name, shape in A, shape in B) of those that cannot be compared.
        compared: The errors of all others, in the model's order.
        notes: What was compared otherwise than by name.
    """

    only_in_a: list[str]
    only_in_b: list[str]
    shapes: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
    compared: list[TensorErrors]
    notes: list[str]


def compare_tensors(
    a: Mapping[str, LazyTensor], b: Mapping[str, LazyTensor], progress: Progress | None = None
) -> TensorAccount:
    """Account for every tensor of two checkpoints, reading a few MiB at a time.

    A tied output head is compared with the other side's own one: it is the embedding.

    Args:
        a, b: Tensors under our names, from `open_checkpoint`.
        progress: Called as each tensor begins, with its name and the stored bytes done and in total.

    Raises:
        CheckpointError: a tensor holds a value that is not a finite number.
    """
    notes = []
    tied = {side: tensors for side, tensors in (("A", a), ("B", b)) if OUTPUT_HEAD not in tensors}
    if len(tied) == 1:
        notes.append(f"the output head of {next(iter(tied))} is its embedding, and is compared as such")
        a, b = _with_head(a), _with_head(b)
    both = [name for name in a if name in b]
    fit = [name for name in both if a[name].shape == b[name].shape]
    total, done, compared = sum(a[name].stored_bytes for name in fit), 0, []
    for name in fit:
        if progress:
            progress(name, done, total)
        compared.append(tensor_errors(a[name], b[name]))
        done += a[name].stored_bytes
    return TensorAccount(
        [name for name in a if name not in b],
        [name for name in b if name not in a],
        [(name, a[name].shape, b[name].shape) for name in both if a[name].shape != b[name].shape],
        [dataclasses.replace(errors, name=name) for name, errors in zip(fit, compared, strict=True)],
        notes,
    )


def tensor_errors(a: LazyTensor, b: LazyTensor) -> TensorErrors:
    """The errors between two tensors of one shape, on all cores."""
    heads = math.lcm(a.head_dim, b.head_dim)
    with ThreadPoolExecutor() as pool:
        sums = list(pool.map(_part_sums, _parts(a, heads), _parts(b, heads)))
    max_errors, max_values, error_squares, squares_a, squares_b, changed = zip(*sums, strict=True)
    error_square = math.fsum(error_squares)
    return TensorErrors(
        a.name,
        a.shape,
        a.stored_type,
        b.stored_type,
        max(max_errors),
        math.sqrt(error_square / max(math.fsum(squares_a), math.fsum(squares_b))) if error_square else 0.0,
        sum(changed) / math.prod(a.shape),
        max(max_values),
        a.transform is not b.transform and Transform.MINUS_ONE in (a.transform, b.transform),
    )


def _part_sums(a: LazyTensor, b: LazyTensor) -> tuple[float, float, float, float, float, int]:
    """Of some rows: largest error and value; squares of the error, of A and of B; how many values differ.

    The same bytes are not decoded twice.
    """
    values_a = a.read()
    alike = (a.stored_type, a.transform, a.update) == (b.stored_type, b.transform, b.update)
    if alike and np.array_equal(a.raw, b.raw):
        square = _square(values_a)
        return 0.0, _largest(values_a), 0.0, square, square, 0
    values_b = b.read()
    error = values_a.astype(np.float64) - values_b
    largest = max(_largest(values_a), _largest(values_b))
    squares = _square(error), _square(values_a), _square(values_b)
    return _largest(error), largest, *squares, int(np.count_nonzero(error))


def _with_head(tensors: Mapping[str, LazyTensor]) -> Mapping[str, LazyTensor]:
    return tensors if OUTPUT_HEAD in tensors else {**tensors, OUTPUT_HEAD: tensors[EMBEDDING]}


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max())


def _square(values: np.ndarray) -> float:
    """Sum of the squares, in float64."""
    flat = values.reshape(-1).astype(np.float64, copy=False)
    return float(flat @ flat)


def _parts(tensor: LazyTensor, multiple: int) -> Iterator[LazyTensor]:
    """The tensor in runs of whole rows, a multiple of whole heads: transforms move rows within a head."""
    if len(tensor.shape) == 1:
        yield tensor
        return
    rows, columns = tensor.shape
    step = max(1, _CHUNK_VALUES // (columns * multiple)) * multiple
    for first in range(0, rows, step):
        last = min(first + step, rows)
        yield tensor.rows(first, last)
