"""Attention block by block equals attention with the whole mask; documents of a row do not see each other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gemcut.config import FULL_ATTENTION, DecoderConfig, RopeParameters

pytestmark = [pytest.mark.backend, pytest.mark.keras]
LENGTH = 300
CONFIG = DecoderConfig(
    vocab_size=16,
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=512,
    layer_types=(FULL_ATTENTION,),
    sliding_window=None,
    rope_parameters=((FULL_ATTENTION, RopeParameters()),),
    query_pre_attn_scalar=8,
)


def numpy_of(tensor):
    return tensor.detach().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)


@pytest.fixture
def case():
    """Queries, keys, values, positions and segments of two rows: three documents and padding, and one document."""
    generator = np.random.default_rng(2)
    shapes = ((2, 4, LENGTH, 8), (2, 2, LENGTH, 8), (2, 2, LENGTH, 8))
    arrays = [generator.standard_normal(shape, dtype=np.float32) for shape in shapes]
    positions, segments = np.zeros((2, LENGTH), np.int32), np.zeros((2, LENGTH), np.int32)
    begin = 0
    for number, length in enumerate((140, 7, 120), 1):
        positions[0, begin : begin + length] = np.arange(length)
        segments[0, begin : begin + length] = number
        begin += length
    positions[1], segments[1] = np.arange(LENGTH), 1
    return *arrays, positions, segments


def attended(case, window, config=CONFIG):
    from keras import ops

    from gemcut.model.backend_ops import leaf_ops
    from gemcut.tune.segment_attention import segment_attention

    return numpy_of(segment_attention(*map(ops.convert_to_tensor, case), window, config, leaf_ops()))


def expected(case, window, softcap=None):
    """The same, query by query in float64."""
    queries, keys, values, positions, segments = case
    keys, values = np.repeat(keys, 2, axis=1).astype(np.float64), np.repeat(values, 2, axis=1)
    scores = np.einsum("bnth,bnsh->bnts", queries, keys) * CONFIG.query_scale
    scores = scores if softcap is None else softcap * np.tanh(scores / softcap)
    order = np.arange(LENGTH)
    seen = (segments[:, :, None] == segments[:, None, :]) & (order[:, None] >= order[None, :])
    if window is not None:
        seen &= positions[:, :, None] - positions[:, None, :] < window
    scores = np.where(seen[:, None], scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = np.einsum("bnts,bnsh->btnh", shares / shares.sum(-1, keepdims=True), values)
    return mixed.reshape(2, LENGTH, 32), segments > 0


@pytest.mark.parametrize("window", [None, 9, 150])
@pytest.mark.parametrize("softcap", [None, 2.0], ids=["plain", "capped"])
def test_blocks_equal_the_whole(case, window, softcap, engine):
    from gemcut.tune.segment_attention import query_blocks

    assert len(query_blocks(LENGTH)) == 3
    wanted, real = expected(case, window, softcap)
    found = attended(case, window, dataclasses.replace(CONFIG, attn_logit_softcapping=softcap))
    np.testing.assert_allclose(found[real], wanted[real], rtol=0, atol=2e-6)
    assert np.isfinite(found).all()  # padding too: what it holds must not spoil gradients


def test_blocks_of_long_rows_grow(engine):
    from gemcut.tune.segment_attention import query_blocks

    assert query_blocks(100) == [(0, 100)]
    assert query_blocks(4096) == [(begin, begin + 512) for begin in range(0, 4096, 512)]
    assert query_blocks(1025)[-1] == (903, 1025)
