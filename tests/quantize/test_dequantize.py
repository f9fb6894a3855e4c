"""Every readable type, bit for bit against the gguf package."""

from __future__ import annotations

import tracemalloc

import gguf
import ml_dtypes
import numpy as np
import pytest
from gguf.quants import dequantize as reference
from gguf.quants import quantize as reference_quantize

from gemcut.quantize import READABLE_TYPES, dequantize, dequantize_into, type_named

every_type = pytest.mark.parametrize("name", sorted(READABLE_TYPES))
# Bytes of the float16 scales inside a block; with small exponents all values stay finite.
SCALES = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "IQ4_NL": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
}


def random_blocks(name: str, rows: int, columns: int, seed: int) -> np.ndarray:
    """Blocks of random bytes with finite values, uint8 (rows, row_bytes)."""
    kind, rng = type_named(name), np.random.default_rng(seed)
    if name in ("F32", "F16", "BF16"):
        values = rng.standard_normal((rows, columns)).astype(np.float32)
        dtype = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}[name]
        return values.astype(dtype).view(np.uint8)
    blocks = rng.integers(0, 256, (rows * columns // kind.block_values, kind.block_bytes), dtype=np.uint8)
    for start in SCALES[name]:
        scale = rng.standard_normal(len(blocks)).astype(np.float16)
        blocks[:, start : start + 2] = scale.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(rows, -1)


@every_type
def test_values_are_the_gguf_packages_bit_for_bit(name: str) -> None:
    raw = random_blocks(name, rows=37, columns=1024, seed=1)
    expected = reference(raw, gguf.GGMLQuantizationType[name]).reshape(37, 1024)
    values = dequantize(raw.reshape(-1), type_named(name), (37, 1024))
    assert np.array_equal(values.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_values_of_really_quantised_weights(name: str) -> None:
    weights = np.random.default_rng(2).standard_normal((16, 256)).astype(np.float32)
    raw = reference_quantize(weights, gguf.GGMLQuantizationType[name])
    values = dequantize(raw.reshape(-1), type_named(name), weights.shape)
    assert np.array_equal(values, reference(raw, gguf.GGMLQuantizationType[name]))
    assert np.abs(values - weights).max() < 0.5


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning:gguf")
@pytest.mark.parametrize("name", sorted(SCALES))
def test_damaged_scales_give_the_same_values_and_are_told(name: str) -> None:
    kind = type_named(name)
    raw = np.random.default_rng(3).integers(0, 256, (64, kind.block_bytes), dtype=np.uint8)
    raw[:, SCALES[name][0] + 1] |= 0x7C  # an exponent of ones: infinity or NaN
    out = np.empty((64, kind.block_values), np.float32)
    assert not dequantize_into(raw.reshape(-1), kind, out)
    expected = reference(raw, gguf.GGMLQuantizationType[name])
    assert np.array_equal(out, expected, equal_nan=True)


@every_type
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_other_types_are_rounded_once_from_float32(name: str, dtype: type) -> None:
    raw = random_blocks(name, rows=8, columns=512, seed=4)
    raw = raw.reshape(-1)
    out = np.empty((8, 512), dtype)
    exact = dequantize(raw, type_named(name), (8, 512))
    with np.errstate(over="ignore"):
        expected = exact.astype(dtype)
    assert dequantize_into(raw, type_named(name), out) == bool(np.isfinite(expected.astype(np.float32)).all())
    assert np.array_equal(out.view(np.uint16), expected.view(np.uint16))


def test_too_large_for_the_target_is_told() -> None:
    raw = np.array([1e5, 1.0], np.float32).view(np.uint8)
    assert not dequantize_into(raw, type_named("F32"), np.empty(2, np.float16))
    assert dequantize_into(raw, type_named("F32"), np.empty(2, ml_dtypes.bfloat16))


@pytest.mark.parametrize("name", ["Q8_0", "BF16"])
def test_rows_can_change_places(name: str) -> None:
    raw = random_blocks(name, rows=10, columns=64, seed=5).reshape(-1)
    order = np.random.default_rng(6).permutation(10)
    out = np.empty((10, 64), np.float32)
    assert dequantize_into(raw, type_named(name), out, row_order=order)
    assert np.array_equal(out, dequantize(raw, type_named(name), (10, 64))[order])


def test_large_tensors_use_threads_and_little_memory_besides() -> None:
    rows, columns = 8192, 1024
    raw = random_blocks("Q6_K", rows=rows, columns=columns, seed=7)
    out = np.empty((rows, columns), np.float32)
    tracemalloc.start()
    try:
        dequantize_into(raw.reshape(-1), type_named("Q6_K"), out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 * 2**20
    some = [0, 4095, rows - 1]
    expected = reference(raw[some], gguf.GGMLQuantizationType.Q6_K)
    assert np.array_equal(out[some], expected)


def test_nothing_becomes_nothing() -> None:
    assert dequantize(np.empty(0, np.uint8), type_named("F32"), (0, 4)).shape == (0, 4)


@pytest.mark.parametrize(
    ("name", "num_bytes", "shape", "message"),
    [
        ("IQ2_XXS", 66, (256,), "type IQ2_XXS is not readable, expected one of BF16, F16"),
        ("Q8_0", 33, (32,), r"33 bytes of Q8_0 do not make 32 values of shape \(32,\)"),
        ("Q8_0", 34, (31,), "34 bytes of Q8_0 do not make 31 values"),
    ],
    ids=["type", "bytes", "row"],
)
def test_sizes_must_fit(name: str, num_bytes: int, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dequantize(np.zeros(num_bytes, np.uint8), type_named(name), shape)
