"""Weights into blocks: grids come back exactly, errors beat the formula's rounding, bytes depend on nothing else."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize as reference
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gemcut.errors import CheckpointError, UsageError
from gemcut.quantize import WRITABLE_TYPES, dequantize, quantize, type_named
from gemcut.quantize.encode import usable_importance

SIMPLE = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
SUPER = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
FLOATS = {"F32": 0.0, "F16": 2.0**-11, "BF16": 2.0**-8}
# Bits of a code, and the values that share a scale.
GROUPS = {"Q2_K": (2, 16), "Q3_K": (3, 16), "Q4_K": (4, 32), "Q5_K": (5, 32), "Q6_K": (6, 16)}
every_block_type = pytest.mark.parametrize("name", SIMPLE + SUPER)


def normal(rows: int, columns: int, seed: int) -> np.ndarray:
    """float32 (rows, columns), normal with deviation 0.03, as weights are."""
    return np.random.default_rng(seed).normal(0, 0.03, (rows, columns)).astype(np.float32)


def stored(values: np.ndarray, name: str, importance: np.ndarray | None = None) -> np.ndarray:
    """The values as a reader sees them after quantising."""
    raw = quantize(values, type_named(name), importance=importance)
    return dequantize(raw.reshape(-1), type_named(name), values.shape)


def weighted_error(values: np.ndarray, name: str, importance: np.ndarray | None = None) -> float:
    weights = np.ones(values.shape[1]) if importance is None else importance
    return float((weights * (values.astype(np.float64) - stored(values, name, importance)) ** 2).sum())


def rounded_to_extremes(values: np.ndarray, bits: int, group: int) -> np.ndarray:
    """Each group between its own extremes, with scale and minimum in full precision: no format can round it more."""
    grouped = values.reshape(-1, group)
    low = np.minimum(grouped.min(axis=1, keepdims=True), 0)
    step = (grouped.max(axis=1, keepdims=True) - low) / (2**bits - 1)
    return (np.round((grouped - low) / step) * step + low).reshape(values.shape)


@every_block_type
def test_the_gguf_package_reads_the_same_values(name: str) -> None:
    values = normal(5, 512, seed=1)
    raw = quantize(values, type_named(name))
    expected = reference(raw, gguf.GGMLQuantizationType[name])
    assert np.array_equal(dequantize(raw.reshape(-1), type_named(name), values.shape), expected)


@pytest.mark.parametrize("name", SIMPLE)
def test_error_is_below_the_packages_rounding(name: str) -> None:
    values = normal(16, 512, seed=2)
    theirs = reference(gguf.quants.quantize(values, gguf.GGMLQuantizationType[name]), gguf.GGMLQuantizationType[name])
    assert weighted_error(values, name) < 0.93 * float(((values - theirs) ** 2).sum())


@pytest.mark.parametrize("name", ["Q4_K", "Q5_K", "Q2_K"])
def test_super_blocks_beat_rounding_between_each_groups_extremes(name: str) -> None:
    values = normal(16, 512, seed=3)
    simple = rounded_to_extremes(values, *GROUPS[name])
    assert weighted_error(values, name) < 0.9 * float(((values - simple) ** 2).sum())


@pytest.mark.parametrize(("name", "levels"), [("Q3_K", 4), ("Q6_K", 32)])
def test_symmetric_super_blocks_beat_rounding_to_each_groups_largest(name: str, levels: int) -> None:
    values = normal(16, 512, seed=4)
    groups = values.reshape(-1, 16)
    step = np.abs(groups).max(axis=1, keepdims=True) / levels
    simple = (np.clip(np.round(groups / step), -levels, levels - 1) * step).reshape(values.shape)
    assert weighted_error(values, name) < 0.9 * float(((values - simple) ** 2).sum())


@every_block_type
def test_importance_moves_the_error_to_where_it_costs_less(name: str) -> None:
    values = normal(16, 512, seed=5)
    importance = np.random.default_rng(6).lognormal(0, 1.5, 512).astype(np.float32)
    plain = stored(values, name)
    before = float((importance * (values.astype(np.float64) - plain) ** 2).sum())
    assert weighted_error(values, name, importance) < 0.9 * before


@pytest.mark.parametrize("name", SIMPLE)
def test_weights_on_a_grid_come_back_bit_for_bit(name: str) -> None:
    kind, rng = type_named(name), np.random.default_rng(7)
    blocks = rng.integers(0, 256, (512, kind.block_bytes), dtype=np.uint8)
    blocks[:, :2] = rng.uniform(0.001, 0.1, 512).astype(np.float16).view(np.uint8).reshape(-1, 2)
    if name in ("Q4_1", "Q5_1"):
        blocks[:, 2:4] = rng.uniform(-1, 0, 512).astype(np.float16).view(np.uint8).reshape(-1, 2)
    if name == "Q8_0":
        blocks[:, 2:][blocks[:, 2:] == 128] = 129  # a code of -128, which no encoder makes
    values = dequantize(blocks.reshape(-1), kind, (16, 1024))
    assert np.array_equal(stored(values, name), values)


@pytest.mark.parametrize(
    ("name", "share"), [("Q2_K", 0.99), ("Q3_K", 0.99), ("Q4_K", 0.95), ("Q5_K", 0.7), ("Q6_K", 0.99)]
)
def test_super_blocks_once_quantised_mostly_stay_and_move_little(name: str, share: float) -> None:
    # A group that does not use its outermost codes hides where on the grid it lies, most often in Q5_K.
    first = stored(normal(16, 1024, seed=8), name)
    again = stored(first, name)
    same = (first == again).reshape(-1, 256).all(axis=1)
    assert same.mean() >= share
    assert np.abs(again - first).max() < 0.2 * first.std()


@pytest.mark.parametrize("name", FLOATS)
def test_float_types_round_to_nearest(name: str) -> None:
    values = normal(3, 7, seed=9)
    assert np.abs(stored(values, name) - values).max() <= FLOATS[name] * np.abs(values).max()


@every_block_type
def test_bytes_do_not_depend_on_threads_or_on_other_rows(name: str) -> None:
    values, kind = normal(37, 512, seed=10), type_named(name)
    whole = quantize(values, kind, num_threads=1)
    assert np.array_equal(quantize(values, kind, num_threads=3), whole)
    assert np.array_equal(np.concatenate([quantize(values[row : row + 1], kind) for row in range(37)]), whole)


@every_block_type
@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.zeros((2, 256), np.float32), id="zeros"),
        pytest.param(np.full((2, 256), 1e-40, np.float32), id="denormals"),
        pytest.param(np.full((2, 256), 3e-8, np.float32), id="below float16"),
        pytest.param(np.eye(2, 256, dtype=np.float32), id="one value"),
        pytest.param(np.full((2, 256), -0.25, np.float32), id="one negative value everywhere"),
        pytest.param(np.full((2, 256), 0.25, np.float32), id="one positive value everywhere"),
        pytest.param(np.full((2, 256), 65504, np.float32) * np.float32([[1], [-1]]), id="float16's largest"),
    ],
)
def test_extreme_weights_stay_finite_and_near(name: str, values: np.ndarray) -> None:
    result = stored(values, name)
    assert np.isfinite(result).all()
    # A step of 2 bits spans a third of the range; float16's smallest scale is 6e-8.
    assert np.abs(result - values).max() <= max(np.abs(values).max() * 0.17, 1e-6)


@every_block_type
def test_nothing_becomes_nothing(name: str) -> None:
    assert quantize(np.empty((0, 256), np.float32), type_named(name)).shape[0] == 0
    assert quantize(np.empty((3, 0), np.float32), type_named(name)).shape == (3, 0)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(SIMPLE + SUPER),
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(-20, 4),
    offset=st.floats(-2, 2),
    rows=st.integers(1, 20),
)
@example(name="Q5_K", seed=1, scale=-20.0, offset=0.0, rows=2)  # float16's smallest step is too coarse for it
def test_any_distribution_is_stored_within_its_range(
    name: str, seed: int, scale: float, offset: float, rows: int
) -> None:
    rng = np.random.default_rng(seed)
    values = ((rng.standard_t(3, (rows, 256)) + offset) * 2.0**scale).astype(np.float32)
    importance = rng.lognormal(0, 2, 256).astype(np.float32)
    raw = quantize(values, type_named(name), importance=importance, name="w")
    result = dequantize(raw.reshape(-1), type_named(name), values.shape)
    assert np.array_equal(result, reference(raw, gguf.GGMLQuantizationType[name]))
    weights = usable_importance(importance, 256)
    wide, stored = values.astype(np.float64), result.astype(np.float64)
    assert (weights * (wide - stored) ** 2).sum() <= (weights * wide**2).sum() * (1 + 1e-6)


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("Q4_K", np.nan, "blk: row 1, column 7 is nan, expected a number"),
        ("F16", np.inf, "blk: row 1, column 7 is inf, expected a number"),
        ("Q8_0", -65505.0, "blk: row 1, column 7 is -65505, expected at most 65504 in magnitude for Q8_0"),
        ("F16", 70000.0, "blk: row 1, column 7 is 70000, expected at most 65504 in magnitude for F16"),
        ("F32", np.nan, "blk: row 1, column 7 is nan"),
        ("BF16", 3.4e38, "in magnitude for BF16. Keep this tensor in BF16 or F32"),
    ],
)
def test_values_that_cannot_be_stored_are_named(name: str, bad: float, message: str) -> None:
    values = normal(3, 256, seed=11)
    values[1, 7] = bad
    with pytest.raises(CheckpointError, match=message):
        quantize(values, type_named(name), name="blk")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("IQ4_NL", normal(1, 32, 0), "w: type IQ4_NL cannot be written. Choose one of BF16"),
        ("Q4_K", normal(1, 640, 0), "w: rows of 640 are not whole blocks of 256, which Q4_K needs"),
        ("Q4_0", normal(1, 32, 0).astype(np.float64), "w: is float64 .1, 32., expected contiguous float32"),
        ("Q4_0", normal(64, 32, 0).T, "expected contiguous float32"),
        ("Q4_0", normal(1, 32, 0)[0], "expected contiguous float32"),
    ],
    ids=["type", "columns", "dtype", "order", "vector"],
)
def test_shapes_and_types_that_do_not_fit(name: str, values: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        quantize(values, type_named(name), name="w")


@pytest.mark.parametrize(
    ("importance", "message"),
    [
        (np.ones(255), r"w: its importance is \(255,\), expected \(256,\), one number for each column"),
        (np.full(256, -1.0), "w: its importance has negative, infinite or NaN numbers"),
        (np.full(256, np.nan), "negative, infinite or NaN"),
    ],
    ids=["length", "negative", "nan"],
)
def test_importance_must_fit(importance: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        quantize(normal(1, 256, 0), type_named("Q4_K"), importance=importance, name="w")


@pytest.mark.parametrize("factor", [0.0, 1e-30, 1e30], ids=["zero", "tiny", "huge"])
def test_only_the_proportions_of_importance_count(factor: float) -> None:
    values, flat = normal(4, 256, seed=12), np.full(256, factor)
    assert np.array_equal(quantize(values, type_named("Q4_K"), importance=flat), quantize(values, type_named("Q4_K")))


def test_every_type_that_is_written_is_read() -> None:
    assert set(SIMPLE + SUPER) | set(FLOATS) == WRITABLE_TYPES
