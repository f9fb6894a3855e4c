"""Rotary embedding against its formula in float64."""

from __future__ import annotations

import numpy as np
import pytest

from gemcut.config import RopeParameters

pytestmark = [pytest.mark.backend, pytest.mark.keras]
HEAD_DIM = 16


def float64_angles(positions, rope):
    exponents = np.arange(0, HEAD_DIM, 2, dtype=np.float64) / HEAD_DIM
    return positions[:, None, :, None] / rope.factor * rope.rope_theta**-exponents


@pytest.mark.parametrize(
    "rope",
    [
        pytest.param(RopeParameters(), id="plain"),
        pytest.param(RopeParameters(rope_theta=1e6), id="theta-1e6"),
        pytest.param(RopeParameters(rope_theta=1e6, factor=8.0), id="linear-8"),
    ],
)
def test_tables_are_cosine_and_sine_of_the_angles(engine, to_numpy, rope):
    from gemcut.model.rope import rope_tables

    positions = np.array([[0, 1, 2, 77, 8191], [3, 512, 1023, 1024, 4095]], np.int32)
    cos, sin = (to_numpy(table) for table in rope_tables(positions, HEAD_DIM, rope))
    assert cos.shape == sin.shape == (2, 1, 5, HEAD_DIM // 2)
    angles = float64_angles(positions, rope)
    bound = 2.0**-22 * np.abs(angles) + 1e-6  # frequency and product are rounded to float32, 2**-24 each
    assert (np.abs(cos - np.cos(angles)) <= bound).all()
    assert (np.abs(sin - np.sin(angles)) <= bound).all()


def test_position_8191_is_not_rounded(engine, to_numpy):
    """A bfloat16 position would be 8192. The first frequency is 1, so its angle is exact."""
    from gemcut.model.rope import rope_tables

    cos, sin = (to_numpy(table) for table in rope_tables(np.array([[8191]], np.int32), HEAD_DIM, RopeParameters()))
    assert cos[0, 0, 0, 0] == pytest.approx(np.cos(8191.0), abs=1e-6)
    assert sin[0, 0, 0, 0] == pytest.approx(np.sin(8191.0), abs=1e-6)
    assert abs(np.cos(8191.0) - np.cos(8192.0)) > 0.1  # the test can tell them apart


def test_rotation_turns_the_halves_against_each_other(engine, to_numpy):
    from keras import ops

    from gemcut.model.rope import apply_rope, rope_tables

    x = np.random.default_rng(0).standard_normal((2, 3, 5, HEAD_DIM)).astype(np.float32)
    positions = np.arange(10, dtype=np.int32).reshape(2, 5) * 7
    turned = to_numpy(apply_rope(ops.convert_to_tensor(x), *rope_tables(positions, HEAD_DIM, RopeParameters())))
    turns = np.exp(1j * float64_angles(positions, RopeParameters()))
    expected = (x[..., : HEAD_DIM // 2] + 1j * x[..., HEAD_DIM // 2 :]) * turns
    np.testing.assert_allclose(turned, np.concatenate([expected.real, expected.imag], -1), rtol=0, atol=5e-5)


def test_rotation_keeps_the_type(engine):
    import keras
    from keras import ops

    from gemcut.model.rope import apply_rope, rope_tables

    x = ops.ones((1, 1, 2, HEAD_DIM), dtype="bfloat16")
    cos, sin = rope_tables(np.array([[0, 1]], np.int32), HEAD_DIM, RopeParameters())
    assert keras.backend.standardize_dtype(cos.dtype) == "float32"
    assert keras.backend.standardize_dtype(apply_rope(x, cos, sin).dtype) == "bfloat16"
