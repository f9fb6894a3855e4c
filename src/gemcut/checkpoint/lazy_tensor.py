"""A tensor of a checkpoint under our name, read when it is asked for, in the type that is asked for."""

from __future__ import annotations

import dataclasses
import math

import ml_dtypes
import numpy as np

from gemcut.checkpoint.names import Transform
from gemcut.errors import CheckpointError, UsageError
from gemcut.interfaces import LowRankUpdate
from gemcut.quantize import dequantize_into, type_named

DTYPES: dict[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
STORED_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_CHUNK_VALUES = 1 << 20


@dataclasses.dataclass(frozen=True)
class LazyTensor:
    """One tensor of the decoder, still in its file.

    Attributes:
        name: Ours.
        source_name: The file's.
        file: The file's name.
        shape: Ours; matrices are (out, in).
        stored_type: ggml's name of the stored type, such as "BF16" or "Q8_0".
        raw: uint8, the stored bytes of exactly these rows, a view of the memory-mapped file.
        transform: What `read` undoes.
        head_dim: H, for transforms of heads.
        update: What an adapter adds to the stored numbers, in our order of rows; None for nothing.
    """

    name: str
    source_name: str
    file: str
    shape: tuple[int, ...]
    stored_type: str
    raw: np.ndarray
    transform: Transform = Transform.NONE
    head_dim: int = 2
    update: LowRankUpdate | None = None

    @property
    def stored_bytes(self) -> int:
        """Bytes it takes in the file."""
        return self.raw.size

    @property
    def num_rows(self) -> int:
        """Rows of a matrix; 1 for a vector."""
        return self.shape[0] if len(self.shape) == 2 else 1

    def read(self, dtype: str = "float32", out: np.ndarray | None = None) -> np.ndarray:
        """Its values, exact in float32 and rounded once, to nearest even, in the others.

        Args:
            dtype: "float32", "float16" or "bfloat16".
            out: C-contiguous array of `shape` and `dtype` to fill; None for whatever costs least.

        Returns:
            `out`; without it an array of `shape`, C-contiguous: a read-only view of the file's memory map where the
            file holds these very numbers, else an array of its own.

        Raises:
            UsageError: an unknown `dtype`.
            CheckpointError: a value is NaN or infinite, or too large for `dtype`.
        """
        if dtype not in DTYPES:
            raise UsageError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}.")
        if self.update:
            values, finite = self._updated(dtype)
        elif STORED_DTYPES.get(self.stored_type) == dtype and self.transform is Transform.NONE and self._is_aligned():
            values = self.raw.view(DTYPES[dtype]).reshape(self.shape)
            finite = all_finite(values)
        elif self.transform is Transform.MINUS_ONE:
            wide = np.empty(self.shape, np.float32)
            finite = dequantize_into(self.raw, type_named(self.stored_type), wide)
            wide -= 1
            values = wide.astype(DTYPES[dtype], copy=False)
        else:
            values = np.empty(self.shape, DTYPES[dtype]) if out is None else out
            finite = dequantize_into(self.raw, type_named(self.stored_type), values, row_order=self.row_order())
        if not finite:
            raise CheckpointError(
                f'{self.file}: "{self.source_name}" has a value that is NaN, infinite or too large for {dtype}, '
                "expected finite numbers. The file is damaged, or this dtype is too narrow for it."
            )
        if out is not None and values is not out:
            np.copyto(out, values)
        return values if out is None else out

    def rows(self, first: int, last: int) -> LazyTensor:
        """Rows [first, last) of a matrix; of heads that are stored in another order, whole ones."""
        row_bytes = self.stored_bytes // self.shape[0]
        return dataclasses.replace(
            self,
            shape=(last - first, *self.shape[1:]),
            raw=self.raw[first * row_bytes : last * row_bytes],
            update=self.update and self.update.rows(first, last),
        )

    def stored_rows(self, rows: slice | np.ndarray) -> np.ndarray:
        """float32 (rows, columns) of rows as the file counts them, the update added; `transform` is not undone.

        Args:
            rows: Of a matrix; a vector is one row.

        Raises:
            CheckpointError: a value is NaN or infinite.
        """
        stored = np.ascontiguousarray(self.raw.reshape(self.num_rows, -1)[rows])
        values = np.empty((len(stored), self.shape[-1]), np.float32)
        finite = dequantize_into(stored.reshape(-1), type_named(self.stored_type), values)
        if finite and self.update:
            order = self.row_order()
            self.update.add_to(values, rows if order is None else np.argsort(order)[rows])
            finite = all_finite(values)
        if not finite:
            raise self.not_finite()
        return values

    def not_finite(self) -> CheckpointError:
        """The error of a stored value that is none."""
        return CheckpointError(
            f'{self.file}: "{self.source_name}" has a value that is NaN or infinite, expected finite numbers. '
            "The file is damaged; get it again."
        )

    def _updated(self, dtype: str) -> tuple[np.ndarray, bool]:
        """Stored numbers and update together, in a type; and whether all are finite in it."""
        assert self.update is not None
        wide = np.empty(self.shape, np.float32)
        finite = dequantize_into(self.raw, type_named(self.stored_type), wide, row_order=self.row_order())
        step = max(1, _CHUNK_VALUES // self.shape[1])
        for first in range(0, self.shape[0], step):
            self.update.add_to(wide[first : first + step], slice(first, first + step))
        with np.errstate(over="ignore"):
            values = wide.astype(DTYPES[dtype], copy=False)
        return values, finite and all_finite(values)

    def row_order(self) -> np.ndarray | None:
        """Stored row of each of our rows; None where they are in order."""
        return unpermuted_rows(self.transform, self.shape[0], self.head_dim)

    def _is_aligned(self) -> bool:
        """Whether the numbers lie where backends may take them from: at a multiple of their size."""
        return self.raw.ctypes.data % DTYPES[STORED_DTYPES[self.stored_type]].itemsize == 0


def unpermuted_rows(transform: Transform, num_rows: int, head_dim: int) -> np.ndarray | None:
    """Stored row of each of our rows, for queries and keys that GGUF keeps as adjacent pairs; None for others.

    GGUF's rows 2 j and 2 j + 1 of a head are rows j and j + H / 2 of ours.
    """
    if transform not in (Transform.UNPERMUTE_QUERY, Transform.UNPERMUTE_KEY):
        return None
    pairs = np.arange(num_rows).reshape(-1, head_dim // 2, 2)  # (heads, H / 2, 2)
    return pairs.swapaxes(1, 2).reshape(-1)


def all_finite(values: np.ndarray) -> bool:
    """Whether no value is NaN or infinite, looking at a chunk at a time."""
    flat = values.reshape(-1)
    # Of a 16-bit float the exponent's bits tell; numpy is slow at their arithmetic.
    exponent = {"float16": 0x7C00, "bfloat16": 0x7F80}.get(values.dtype.name)
    bits = flat.view(np.uint16) if exponent else flat
    for start in range(0, math.prod(values.shape), _CHUNK_VALUES):
        chunk = bits[start : start + _CHUNK_VALUES]
        if exponent:
            if int((chunk & exponent).max()) == exponent:
                return False
        elif not (np.isfinite(chunk.max()) and np.isfinite(chunk.min())):
            return False
    return True
