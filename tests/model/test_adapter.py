"""Low-rank updates beside the decoder's stacked matrices."""

from __future__ import annotations

import numpy as np
import pytest

from gemcut.config.parameters import layer_shapes
from gemcut.interfaces import LowRankUpdate

ROWS = (6, 3, 4)  # of three matrices that are stacked
PARTS = ("q", "k", "v")


def random_update(shape, rank, scale, seed):
    generator = np.random.default_rng(seed)
    a, b = (generator.standard_normal(size, dtype=np.float32) for size in ((rank, shape[1]), (shape[0], rank)))
    return LowRankUpdate(a, b, scale)


def product(update):
    return update.scale * (update.b.astype(np.float64) @ update.a)


@pytest.mark.backend
@pytest.mark.keras
@pytest.mark.parametrize("adapted", ["qkv", "qv", "k"])
def test_stacked_factors_give_each_part_its_own_product(adapted):
    from gemcut.model.adapter import stacked_update

    updates = {
        part: random_update((rows, 5), 1 + index, 0.5 + index, index)
        for index, (part, rows) in enumerate(zip(PARTS, ROWS, strict=True))
        if part in adapted
    }
    a, b = stacked_update(PARTS, ROWS, updates)
    assert a.dtype == b.dtype == np.float32
    assert a.shape == (sum(update.rank for update in updates.values()), 5)
    wanted = [
        product(updates[part]) if part in updates else np.zeros((rows, 5))
        for part, rows in zip(PARTS, ROWS, strict=True)
    ]
    np.testing.assert_allclose(b @ a, np.concatenate(wanted), rtol=0, atol=1e-5)


@pytest.mark.backend
@pytest.mark.keras
def test_nothing_is_stacked_without_an_update():
    from gemcut.model.adapter import stacked_update

    assert stacked_update(PARTS, ROWS, {}) is None


def weights_of(names, shape):
    """float32 weights of a realistic spread, the same for the same names."""
    noise = np.random.default_rng(list(" ".join(names).encode())).standard_normal(shape, dtype=np.float32)
    return noise * np.float32(0.3 if len(shape) == 1 else 1.2 / shape[1] ** 0.5)


@pytest.mark.backend
@pytest.mark.keras
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-5), ("bfloat16", 0.25)], ids=["float32", "bfloat16"])
def test_decoder_with_updates_equals_one_with_changed_weights(make_decoder, to_numpy, dtype, tolerance):
    # bfloat16 keeps 8 bits: each product is rounded by up to 2^-9 of numbers of about 5, a few times in two layers.
    from keras import ops

    from gemcut.model.decoder import Decoder

    config = make_decoder().config
    updates = {
        f"model.layers.1.{name}": random_update(shape, 2, 0.1, seed)
        for seed, (name, shape) in enumerate(layer_shapes(config).items())
        if name.endswith("_proj.weight")
    }

    def plain(names, shape, dtype):
        return ops.convert_to_tensor(weights_of(names, shape), dtype=dtype)

    def changed(names, shape, dtype):
        deltas = [product(updates[name]) for name in names if name in updates]
        values = weights_of(names, shape) + (np.concatenate(deltas).astype(np.float32) if deltas else 0)
        return ops.convert_to_tensor(values, dtype=dtype)

    token_ids = np.random.default_rng(1).integers(0, config.vocab_size, (1, 12)).astype(np.int32)
    decoders = Decoder(config, plain, dtype), Decoder(config, changed, dtype), Decoder(config, plain, dtype, updates)
    without, merged, beside = (to_numpy(decoder(ops.convert_to_tensor(token_ids))) for decoder in decoders)
    assert np.abs(merged - without).max() > 1
    np.testing.assert_allclose(beside, merged, rtol=0, atol=tolerance)


@pytest.mark.backend
@pytest.mark.keras
def test_decoder_without_updates_has_no_more_variables(make_decoder):
    assert not [variable.path for variable in make_decoder().variables if "lora" in variable.path]
