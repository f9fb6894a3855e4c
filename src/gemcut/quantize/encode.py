"""Float weights into ggml's blocks: the codes and scales of least weighted squared error.

Everything that `dequantize` reads can be written, but IQ4_NL. The bytes are the same for any number of threads and
on every processor.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import ml_dtypes
import numpy as np

from gemcut.errors import CheckpointError, UsageError
from gemcut.machine import usable_cores
from gemcut.quantize.ggml_types import GGMLType

_FLOATS: dict[str, np.dtype] = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_BLOCK_TYPES = frozenset({"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"})
WRITABLE_TYPES = frozenset(_FLOATS) | _BLOCK_TYPES
# Scales are float16; bfloat16 and float32 reach to the same power of two.
_LIMITS = {"F32": 3.4028235e38, "BF16": 3.3895314e38}
_FLOAT16_LIMIT = 65504.0
# Columns that the calibration text never used still count a little, so that they come out sensibly.
_LEAST_IMPORTANCE = 1e-4


def usable_importance(importance: np.ndarray | None, columns: int, name: str = "tensor") -> np.ndarray:
    """Weight of each column's squared error, float32 (columns,), above zero and 1 on average.

    Args:
        importance: Mean square of each input channel, float (columns,), at least 0; None weighs all alike.
        columns: Channels of the tensor.
        name: What messages call the tensor.

    Raises:
        UsageError: the length is another, or a value is negative, infinite or NaN.
    """
    if importance is None:
        return np.ones(columns, np.float32)
    if importance.shape != (columns,):
        raise UsageError(
            f"{name}: its importance is {importance.shape}, expected ({columns},), one number for each column. "
            "Calibrate this model, not another."
        )
    values = importance.astype(np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise UsageError(
            f"{name}: its importance has negative, infinite or NaN numbers, expected means of squares. Calibrate again."
        )
    mean = values.mean() if columns else 0.0
    if mean == 0:
        return np.ones(columns, np.float32)
    return ((values / mean + _LEAST_IMPORTANCE) / (1 + _LEAST_IMPORTANCE)).astype(np.float32)


def _check_values(values: np.ndarray, limit: float, ggml_type: GGMLType, name: str) -> None:
    place = _kernels().first_beyond(values, limit)
    if place < 0:
        return
    row, column = divmod(place, values.shape[1])
    found = values[row, column]
    if np.isfinite(found):
        raise CheckpointError(
            f"{name}: row {row}, column {column} is {found:g}, expected at most {limit:g} in magnitude for "
            f"{ggml_type.name}. Keep this tensor in BF16 or F32."
        )
    raise CheckpointError(
        f"{name}: row {row}, column {column} is {found:g}, expected a number. The weights are damaged: get them again."
    )


def quantize(
    values: np.ndarray,
    ggml_type: GGMLType,
    *,
    importance: np.ndarray | None = None,
    num_threads: int = 0,
    name: str = "tensor",
) -> np.ndarray:
    """A matrix in blocks, the error sum over columns of importance x (value - stored value)^2 made small.

    Args:
        values: float32 (rows, columns), C-contiguous; columns a multiple of the type's block.
        ggml_type: How to store them; one of `WRITABLE_TYPES`.
        importance: float (columns,), at least 0: mean square of the inputs that each column meets. None weighs
            all columns alike. The float types round to nearest whatever it is.
        num_threads: At least 1; 0 takes every core this process may use.
        name: What messages call the tensor.

    Returns:
        uint8 (rows, row_bytes).

    Raises:
        UsageError: shapes do not fit the type, or the importance is not usable.
        CheckpointError: a value is NaN or infinite, or beyond what the type's scales can hold.
    """
    if ggml_type.name not in WRITABLE_TYPES:
        raise UsageError(
            f"{name}: type {ggml_type.name} cannot be written. Choose one of {', '.join(sorted(WRITABLE_TYPES))}."
        )
    if values.dtype != np.float32 or values.ndim != 2 or not values.flags.c_contiguous:
        raise UsageError(f"{name}: is {values.dtype} {values.shape}, expected contiguous float32 (rows, columns).")
    rows, columns = values.shape
    if columns % ggml_type.block_values:
        raise UsageError(
            f"{name}: rows of {columns} are not whole blocks of {ggml_type.block_values}, which {ggml_type.name} needs."
            " Choose a type with smaller blocks."
        )
    _check_values(values, _LIMITS.get(ggml_type.name, _FLOAT16_LIMIT), ggml_type, name)
    if ggml_type.name in _FLOATS:
        return values.astype(_FLOATS[ggml_type.name]).view(np.uint8)
    weights = usable_importance(importance, columns, name)
    out = np.empty((rows, columns // ggml_type.block_values * ggml_type.block_bytes), np.uint8)
    _kernels().quantize(values, ggml_type.number, weights, out, num_threads or usable_cores())
    return out


@functools.cache
def _kernels() -> Any:
    """The compiled module `gemcut._kernels`."""
    return importlib.import_module("gemcut._kernels")
