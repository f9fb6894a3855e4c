"""The decoder in its three number formats, and where its weights come from."""

from __future__ import annotations

import numpy as np
import pytest

from gemcut.config.parameters import num_parameters, parameter_shapes

pytestmark = [pytest.mark.backend, pytest.mark.keras]
TOKEN_IDS = np.array([[2, 9, 40, 40, 7, 81, 3, 3, 60, 5, 12, 33]], np.int32)
FULL_PRECISION = {"final_logit_softcapping": None}


def logits(decoder, to_numpy):
    from keras import ops

    return to_numpy(decoder(ops.convert_to_tensor(TOKEN_IDS)))[0].astype(np.float64)


def relative_error(found, expected):
    """Root mean square of the difference, as a share of that of the expected values."""
    return np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean())


@pytest.mark.parametrize(
    ("dtype", "unit"),
    [pytest.param("bfloat16", 2.0**-9, id="bfloat16"), pytest.param("float16", 2.0**-12, id="float16")],
)
def test_narrow_types_stay_near_float32(make_decoder, to_numpy, dtype, unit):
    """A value rounded to p bits is off by a share of `unit` = 2**-(p + 1) at most, about half of that on average.

    Weights, the embedding and some 14 results a layer are rounded, which errors of random sign make 6 `unit` in all;
    norms and softmax may double that. The bound is 12; ten times less would be suspicious: nothing was rounded.
    """
    found = logits(make_decoder(dtype, **FULL_PRECISION), to_numpy)
    error = relative_error(found, logits(make_decoder(**FULL_PRECISION), to_numpy))
    assert 0.5 * unit < error < 12 * unit


def overflowing_source(names, shape, dtype):
    """Weights whose post-norm gains drive the residual stream beyond 65504, float16's largest number."""
    from keras import ops

    if "post_" in names[0]:
        return ops.full(shape, 20_000.0, dtype=dtype)
    if len(shape) == 1:
        return ops.zeros(shape, dtype=dtype)
    values = np.random.default_rng([*" ".join(names).encode()]).standard_normal(shape) / np.sqrt(shape[1])
    return ops.convert_to_tensor(values.astype(np.float32), dtype=dtype)


def test_float16_keeps_a_residual_stream_that_float16_cannot_hold(make_decoder, to_numpy):
    wide = logits(make_decoder("float32", overflowing_source), to_numpy)
    narrow = logits(make_decoder("float16", overflowing_source), to_numpy)
    assert np.isfinite(narrow).all()
    assert relative_error(narrow, wide) < 0.02


def test_float16_would_overflow_without_the_float32_residual(make_decoder, to_numpy, monkeypatch):
    import gemcut.model.decoder as decoder_module

    monkeypatch.setattr(decoder_module, "residual_dtype", lambda dtype: dtype)
    narrow = logits(make_decoder("float16", overflowing_source), to_numpy)
    assert not np.isfinite(narrow).all()


def test_float16_through_the_cache(make_model):
    """The cache and the compiled steps hold float16, the stream between layers float32."""
    model = make_model("float16", source=overflowing_source)
    found = model.logits(TOKEN_IDS[0].tolist())
    model.close()
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_every_parameter_is_asked_for_once_by_its_name(make_decoder, tied):
    from keras import ops

    asked = []

    def source(names, shape, dtype):
        asked.extend(names)
        return ops.zeros(shape, dtype=dtype)

    decoder = make_decoder(source=source, tie_word_embeddings=tied)
    assert sorted(asked) == sorted(parameter_shapes(decoder.config))
    assert decoder.count_params() == num_parameters(decoder.config)
    assert (decoder.tree()["head"] is decoder.tree()["embedding"]) == tied


@pytest.mark.parametrize("unit_offset", [True, False], ids=["gemma", "llama"])
def test_random_weights_are_seeded_and_of_a_sane_scale(make_decoder, to_numpy, unit_offset):
    from gemcut.model.decoder import Decoder, random_tensors

    config = make_decoder(norm_unit_offset=unit_offset).config
    first, again, other = (Decoder(config, random_tensors(config, seed)) for seed in (0, 0, 1))
    values = [to_numpy(decoder.embedding.value) for decoder in (first, again, other)]
    assert (values[0] == values[1]).all()
    assert not (values[0] == values[2]).all()
    assert values[0].std() == pytest.approx(0.02, rel=0.1)
    assert (to_numpy(first.final_norm.value) == (0.0 if unit_offset else 1.0)).all()
    assert np.isfinite(logits(first, to_numpy)).all()
