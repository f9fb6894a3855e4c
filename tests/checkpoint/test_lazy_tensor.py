"""Reading one tensor: types, views, roundings, and what the reader undoes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from gemcut.checkpoint.lazy_tensor import DTYPES, LazyTensor
from gemcut.checkpoint.names import Transform
from gemcut.errors import CheckpointError, UsageError

NUMPY = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


def tensor(values: np.ndarray, stored_type: str, transform: Transform = Transform.NONE, offset: int = 0) -> LazyTensor:
    """A tensor whose bytes begin `offset` bytes after an aligned address."""
    stored = values.astype(NUMPY[stored_type])
    buffer = np.zeros(stored.nbytes + 64, np.uint8)
    begin = -buffer.ctypes.data % 16 + offset
    buffer[begin : begin + stored.nbytes] = stored.reshape(-1).view(np.uint8)
    raw = buffer[begin : begin + stored.nbytes]
    raw.flags.writeable = False
    return LazyTensor("ours", "theirs", "file", values.shape, stored_type, raw, transform, head_dim=8)


@pytest.mark.parametrize("stored_type", NUMPY)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0, 1], ids=["aligned", "unaligned"])
def test_every_type_from_every_type(stored_type: str, dtype: str, offset: int) -> None:
    values = np.random.default_rng(0).standard_normal((5, 33)).astype(np.float32)
    lazy = tensor(values, stored_type, offset=offset)
    read = lazy.read(dtype)
    expected = values.astype(NUMPY[stored_type]).astype(np.float32).astype(DTYPES[dtype])
    assert read.dtype == DTYPES[dtype]
    assert read.flags.c_contiguous
    assert np.array_equal(read.view(np.uint8), expected.view(np.uint8))
    is_view = DTYPES[dtype] == NUMPY[stored_type] and offset == 0
    assert np.shares_memory(read, lazy.raw) == is_view
    assert read.flags.writeable != is_view
    assert lazy.stored_bytes == values.size * np.dtype(NUMPY[stored_type]).itemsize


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_is_taken_off_in_float32(dtype: str) -> None:
    gains = np.array([1.00390625, 0.5, 300.25, 1.0], np.float32)
    read = tensor(gains, "F32", Transform.MINUS_ONE).read(dtype)
    assert np.array_equal(read, (gains - 1).astype(DTYPES[dtype]))


@pytest.mark.parametrize("transform", [Transform.UNPERMUTE_QUERY, Transform.UNPERMUTE_KEY])
@pytest.mark.parametrize("stored_type", ["F32", "BF16"])
def test_adjacent_pairs_become_halves(transform: Transform, stored_type: str) -> None:
    ours = np.arange(16 * 4, dtype=np.float32).reshape(16, 4)  # two heads of 8 rows
    stored = ours.reshape(2, 2, 4, 4).swapaxes(1, 2).reshape(16, 4)
    assert stored[1, 0] == ours[4, 0]
    assert np.array_equal(tensor(stored, stored_type, transform).read(), ours)


@pytest.mark.parametrize("stored_type", NUMPY)
@pytest.mark.parametrize("position", [0, 1_500_000, 2_000_000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_no_number_anywhere_is_overlooked(stored_type: str, position: int, value: float) -> None:
    values = np.ones(2_000_001, np.float32)
    assert tensor(values, stored_type).read({"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[stored_type]).all()
    values[position] = value
    for dtype in DTYPES:
        with pytest.raises(CheckpointError, match='file: "theirs" has a value that is NaN, infinite or too large for'):
            tensor(values, stored_type).read(dtype)


def test_too_large_for_float16_is_named() -> None:
    lazy = tensor(np.array([1e5], np.float32), "BF16")
    assert lazy.read("float32").item() == 99840
    with pytest.raises(CheckpointError, match=r"too large for float16, .* this dtype is too narrow"):
        lazy.read("float16")


def test_unknown_types_are_refused() -> None:
    with pytest.raises(UsageError, match="dtype is 'float64', expected one of float32, float16, bfloat16"):
        tensor(np.ones(1, np.float32), "F32").read("float64")
