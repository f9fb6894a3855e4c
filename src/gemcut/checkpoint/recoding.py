"""A tensor on its way from one file to another: chunks of rows, each made of its stored bytes alone."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from gemcut.checkpoint.lazy_tensor import DTYPES, STORED_DTYPES, LazyTensor, all_finite, unpermuted_rows
from gemcut.checkpoint.names import Transform
from gemcut.quantize import quantize, type_named

if TYPE_CHECKING:
    from collections.abc import Callable

# Values and their float32 stay in a core's cache; whatever is copied needs no memory of its own.
CHUNK_VALUES = 1 << 20
COPY_BYTES = 16 << 20


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Bytes of the target, and what rounding did to the numbers in them.

    Attributes:
        data: uint8; a view of the source's memory map where bytes are copied.
        overflowed: Numbers beyond the type's largest, which they became.
        vanished: Numbers other than 0 that became 0.
    """

    data: np.ndarray
    overflowed: int = 0
    vanished: int = 0


@dataclasses.dataclass(frozen=True)
class Recoding:
    """One tensor, and the form in which it is to be written.

    Attributes:
        tensor: As it is stored now.
        name: In the target.
        stored_type: ggml's name of the target's type.
        transform: What a reader of the target undoes.
        importance: float32 (columns,), weight of each column's error when blocks are made; None for equal weights.
    """

    tensor: LazyTensor
    name: str
    stored_type: str
    transform: Transform = Transform.NONE
    importance: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The same in source and target."""
        return self.tensor.shape

    @property
    def num_bytes(self) -> int:
        """Bytes of the target."""
        target = type_named(self.stored_type)
        return math.prod(self.shape) // target.block_values * target.block_bytes

    @property
    def keeps_numbers(self) -> bool:
        """Whether the stored numbers stay as they are, bit for bit; their rows may change places."""
        adds = Transform.MINUS_ONE in (self.tensor.transform, self.transform)
        same_type = self.tensor.stored_type == self.stored_type and self.tensor.update is None
        return same_type and (not adds or self.tensor.transform is self.transform)

    def chunks(self) -> Iterator[Callable[[], Chunk]]:
        """The target's bytes in order, as calls that can run on any thread.

        Raises (each call):
            CheckpointError: a number is NaN or infinite.
        """
        num_rows = self.tensor.num_rows
        order = self._row_order(num_rows)
        columns = self.shape[-1]
        if self.keeps_numbers and order is None:
            rows, make = max(1, COPY_BYTES * num_rows // max(self.tensor.stored_bytes, 1)), self._copied
        else:
            rows, make = max(1, CHUNK_VALUES // columns), self._copied if self.keeps_numbers else self._converted
        for start in range(0, num_rows, rows):
            stop = min(start + rows, num_rows)
            part = slice(start, stop) if order is None else order[start:stop]
            yield functools.partial(make, part)

    def _row_order(self, num_rows: int) -> np.ndarray | None:
        """Stored row of the source for each row of the target; None where they are in the same order."""
        head_dim = self.tensor.head_dim
        wanted = unpermuted_rows(self.transform, num_rows, head_dim)
        order = self.tensor.row_order()
        if (wanted is None) == (order is None):
            return None
        return order if wanted is None else np.argsort(wanted)

    def _copied(self, rows: slice | np.ndarray) -> Chunk:
        data = self.tensor.raw.reshape(self.tensor.num_rows, -1)[rows].reshape(-1)
        dtype = STORED_DTYPES.get(self.stored_type)
        # Blocks are copied without a look inside.
        if dtype and not all_finite(data.view(DTYPES[dtype])):
            raise self.tensor.not_finite()
        return Chunk(data)

    def _converted(self, rows: slice | np.ndarray) -> Chunk:
        values = self.tensor.stored_rows(rows)
        if self.tensor.transform is not self.transform:
            if self.tensor.transform is Transform.MINUS_ONE:
                values -= 1
            elif self.transform is Transform.MINUS_ONE:
                values += 1
        return self._encoded(values)

    def _encoded(self, values: np.ndarray) -> Chunk:
        """float32 (rows, columns) in the target's type."""
        if self.stored_type == "F32":
            return Chunk(values.reshape(-1).view(np.uint8))
        if self.stored_type in STORED_DTYPES:
            return _rounded(values.reshape(-1), DTYPES[STORED_DTYPES[self.stored_type]])
        target = type_named(self.stored_type)
        blocks = quantize(values, target, importance=self.importance, num_threads=1, name=self.tensor.name)
        return Chunk(blocks.reshape(-1))


def own_tensor(name: str, values: np.ndarray, file: str, dtype: str = "float32") -> Recoding:
    """Float32 values of our own that are written to a file of that name, as they are or rounded to "bfloat16"."""
    [type_name] = [name for name, stored in STORED_DTYPES.items() if stored == dtype]
    raw = np.ascontiguousarray(values, DTYPES[dtype]).reshape(-1).view(np.uint8)
    return Recoding(LazyTensor(name, name, file, values.shape, type_name, raw), name, type_name)


def _rounded(values: np.ndarray, dtype: np.dtype) -> Chunk:
    """float32 values in a 16-bit type: to nearest even, and to the largest number where they lie beyond it."""
    with np.errstate(over="ignore"):  # counted below
        rounded = values.astype(dtype)
    bits = rounded.view(np.uint16)
    magnitude = bits & 0x7FFF
    infinity = int(np.array(np.inf, dtype).view(np.uint16))
    overflowed = vanished = 0
    if int(magnitude.max(initial=0)) >= infinity:
        beyond = magnitude >= infinity
        overflowed = int(beyond.sum())
        bits[beyond] -= 1  # one step below infinity is the largest number, of either sign
    if int(magnitude.min(initial=1)) == 0:
        vanished = int(np.count_nonzero(values[magnitude == 0]))
    return Chunk(rounded.view(np.uint8), overflowed, vanished)
