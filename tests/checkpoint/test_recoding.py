"""Chunks of tensors: what is copied, what is converted, and what rounding did."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gemcut.checkpoint.lazy_tensor import LazyTensor
from gemcut.checkpoint.names import Transform
from gemcut.checkpoint.recoding import Chunk, Recoding
from gemcut.errors import CheckpointError
from gemcut.quantize import dequantize, type_named

NUMPY = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


def stored(values: np.ndarray, kind: str = "F32", transform: Transform = Transform.NONE) -> LazyTensor:
    raw = np.ascontiguousarray(values.astype(NUMPY[kind])).reshape(-1).view(np.uint8)
    return LazyTensor("ours", "theirs", "m.gguf", values.shape, kind, raw, transform, head_dim=4)


def chunks(*arguments: Any, **options: Any) -> list[Chunk]:
    return [call() for call in Recoding(*arguments, **options).chunks()]


def joined(parts: list[Chunk], kind: str) -> np.ndarray:
    return np.concatenate([part.data for part in parts]).view(NUMPY[kind])


@pytest.mark.parametrize("kind", sorted(NUMPY))
def test_the_same_type_is_copied_without_memory_of_its_own(kind: str) -> None:
    tensor = stored(np.arange(12.0).reshape(3, 4), kind)
    (chunk,) = chunks(tensor, "new", kind)
    assert np.shares_memory(chunk.data, tensor.raw)
    assert Recoding(tensor, "new", kind).keeps_numbers


def test_rows_change_places_without_changing() -> None:
    values = np.arange(32.0).reshape(8, 4)  # two heads of four rows
    there = joined(chunks(stored(values), "new", "F32", Transform.UNPERMUTE_QUERY), "F32").reshape(8, 4)
    assert there[:, 0].tolist() == [0, 8, 4, 12, 16, 24, 20, 28]
    back = stored(there, transform=Transform.UNPERMUTE_QUERY)
    assert np.array_equal(back.read(), values)
    assert np.array_equal(joined(chunks(back, "new", "F32"), "F32").reshape(8, 4), values)
    same = Recoding(back, "new", "F32", Transform.UNPERMUTE_QUERY)
    assert same.keeps_numbers
    assert np.array_equal(joined([call() for call in same.chunks()], "F32").reshape(8, 4), there)


def test_one_is_added_and_taken_off_in_float32() -> None:
    gains = np.array([0.5, -1, 1e-3, 300], np.float32)
    added = joined(chunks(stored(gains, "BF16"), "new", "F32", Transform.MINUS_ONE), "F32")
    assert np.array_equal(added, 1 + gains.astype(ml_dtypes.bfloat16).astype(np.float32))
    taken = joined(chunks(stored(added, "F32", Transform.MINUS_ONE), "new", "BF16"), "BF16")
    assert np.array_equal(taken, gains.astype(ml_dtypes.bfloat16))
    assert not Recoding(stored(added, "F32", Transform.MINUS_ONE), "new", "F32").keeps_numbers


@pytest.mark.parametrize(
    ("kind", "values", "wanted", "overflowed", "vanished"),
    [
        ("F16", [65504, 65519, 65520, -1e30], [65504, 65504, 65504, -65504], 2, 0),
        ("F16", [6e-8, 2e-8, -1e-30, 0], [6e-8, 0, 0, 0], 0, 2),
        ("BF16", [3.4e38, 3.4028e38, -3.4028e38], [3.39e38, 3.39e38, -3.39e38], 3, 0),
        ("BF16", [1e-45, 1e-38], [0, 1e-38], 0, 1),
        ("BF16", [1.0, -2.5], [1.0, -2.5], 0, 0),
    ],
    ids=["float16 overflow", "float16 underflow", "bfloat16 overflow", "bfloat16 underflow", "exact"],
)
def test_losses_are_counted(
    kind: str, values: list[float], wanted: list[float], overflowed: int, vanished: int
) -> None:
    (chunk,) = chunks(stored(np.array(values, np.float32)), "new", kind)
    assert (chunk.overflowed, chunk.vanished) == (overflowed, vanished)
    assert np.allclose(chunk.data.view(NUMPY[kind]).astype(np.float64), wanted, rtol=0.01, atol=1e-40)


def test_blocks_are_made_with_their_importance() -> None:
    values = np.random.default_rng(3).standard_normal((5, 64), np.float32)
    weights = np.where(np.arange(64) < 8, 100, 0.01).astype(np.float32)
    plain, weighted = (
        np.concatenate([part.data for part in chunks(stored(values), "new", "Q4_0", importance=importance)])
        for importance in (None, weights)
    )
    errors = [
        ((dequantize(raw, type_named("Q4_0"), (5, 64)) - values) ** 2 * weights).sum() for raw in (plain, weighted)
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(kind: str, bad: float) -> None:
    values = np.ones((2, 32), np.float32)
    values[1, 7] = bad
    with pytest.raises(
        CheckpointError, match=r'm\.gguf: "theirs" has a value that is NaN or infinite, expected finite'
    ):
        chunks(stored(values), "new", kind)
