"""Limits let rounding through, and nothing that is ten times as large."""

from __future__ import annotations

import math

import gguf
import numpy as np
import pytest
from gguf.quants import quantize

from gemcut.checkpoint import LazyTensor
from gemcut.inspect.precision import (
    MAX_KL_LIMIT,
    MIN_KL_LIMIT,
    coarsest_type,
    engine_rounding,
    kl_limit,
    log_probability_limit,
    tensor_verdict,
    type_bits,
)
from gemcut.inspect.tensor_comparison import TensorErrors, tensor_errors
from gemcut.quantize import READABLE_TYPES

WRITABLE = ["F16", "BF16", "Q8_0", "Q5_0", "Q5_1", "Q4_0", "Q4_1"]
SPREADS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "heavy-tailed": lambda rng, shape: rng.laplace(size=shape),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, shape),
}


def stored(values: np.ndarray, kind: str) -> LazyTensor:
    raw = quantize(values, gguf.GGMLQuantizationType[kind]).view(np.uint8).reshape(-1)
    return LazyTensor("weight", "weight", "a.gguf", values.shape, kind, raw)


def errors(**changes) -> TensorErrors:
    fields = {
        "name": "w", "shape": (2, 2), "type_a": "F32", "type_b": "F32", "max_error": 0.0, "relative_rms_error": 0.0,
        "changed_share": 0.0, "max_value": 1.0, "adds_one": False,
    }  # fmt: skip
    return TensorErrors(**fields | changes)


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("kind", WRITABLE)
def test_rounding_to_a_type_is_within_it(kind, spread):
    values = SPREADS[spread](np.random.default_rng(7), (64, 512)).astype(np.float32)
    found = tensor_errors(stored(values, "F32"), stored(values, kind))
    assert found.max_error > 0
    assert tensor_verdict(found) == "within"


@pytest.mark.parametrize("kind", WRITABLE)
def test_more_than_rounding_is_different(kind):
    rng = np.random.default_rng(7)
    values = rng.standard_normal((64, 512)).astype(np.float32)
    rounding = tensor_errors(stored(values, "F32"), stored(values, kind)).relative_rms_error
    moved = values * (1 + 10 * rounding * rng.standard_normal(values.shape).astype(np.float32))
    assert tensor_verdict(tensor_errors(stored(values, "F32"), stored(moved, kind))) == "different"


@pytest.mark.parametrize("kind", WRITABLE)
def test_one_value_far_off_is_different(kind):
    values = np.random.default_rng(7).standard_normal((64, 512)).astype(np.float32)
    moved = values.copy()
    moved[3, 5] -= 2 * np.abs(values).max()
    assert tensor_verdict(tensor_errors(stored(values, "F32"), stored(moved, kind))) == "different"


def test_two_forms_of_one_origin_err_together():
    values = np.random.default_rng(7).standard_normal((64, 512)).astype(np.float32)
    assert tensor_verdict(tensor_errors(stored(values, "Q4_0"), stored(values, "Q5_1"))) == "within"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        pytest.param({}, "same", id="equal"),
        pytest.param({"max_error": 1e-7, "adds_one": True}, "same", id="gain-stored-with-one-added"),
        pytest.param({"max_error": 1e-6, "relative_rms_error": 1e-6, "adds_one": True}, "different", id="gain-off"),
        pytest.param({"max_error": 2e-8, "relative_rms_error": 2e-8}, "within", id="last-bit-of-float32"),
        pytest.param({"max_error": 1e-3, "relative_rms_error": 1e-3}, "different", id="float32-off"),
        pytest.param({"max_error": 1e-3, "relative_rms_error": 1e-3, "type_b": "BF16"}, "within", id="bfloat16"),
        pytest.param({"max_error": 0.9, "relative_rms_error": 1e-6, "type_b": "Q4_0"}, "different", id="one-value"),
    ],
)
def test_verdict_of_a_tensor(changes, verdict):
    assert tensor_verdict(errors(**changes)) == verdict


def test_every_readable_type_has_its_bits():
    bits = {kind: type_bits(kind) for kind in READABLE_TYPES}
    assert (bits["F32"], bits["F16"], bits["BF16"], bits["Q8_0"], bits["IQ4_NL"], bits["Q2_K"]) == (24, 11, 8, 8, 4, 2)
    assert all(1 <= value <= 24 for value in bits.values())


def test_coarsest_type_names_the_verdict():
    assert coarsest_type([errors(type_b="Q6_K"), errors(type_a="Q4_K", type_b="BF16")]) == "Q4_K"


@pytest.mark.parametrize(
    ("engine", "dtype", "asked", "expected"),
    [
        pytest.param("jax", "float32", "auto", 2.0**-20, id="keras-float32"),
        pytest.param("torch", "bfloat16", "auto", 2.0**-8, id="keras-bfloat16"),
        pytest.param("native", "float32", "float32", 2.0**-20, id="native-float32-throughout"),
        pytest.param("native", "float32", "auto", 2.0**-8, id="native-bfloat16-cache"),
        pytest.param("native", "q4_k", "float32", 2.4 / 12**0.5 / 128, id="native-8-bit-inputs"),
    ],
)
def test_rounding_of_an_engine(engine, dtype, asked, expected):
    assert engine_rounding(engine, dtype, asked) == pytest.approx(expected)


def test_limit_of_the_divergence_grows_with_the_square_of_the_error_between_its_bounds():
    assert kl_limit(0.0, [2.0**-20] * 2, 18) == MIN_KL_LIMIT
    assert kl_limit(1e-3, [], 18) == pytest.approx(40 * 18 * 1e-6)
    assert kl_limit(2e-3, [], 18) == pytest.approx(4 * kl_limit(1e-3, [], 18))
    assert kl_limit(3e-3, [4e-3], 18) == pytest.approx(kl_limit(5e-3, [], 18))
    assert kl_limit(0.5, [], 18) == MAX_KL_LIMIT


def test_limit_of_the_perplexity_tightens_with_more_tokens():
    assert log_probability_limit(0.02, 100) == pytest.approx(0.02 + 3 * math.sqrt(0.04 / 100))
    assert log_probability_limit(0.02, 10_000) < log_probability_limit(0.02, 100)
