"""The adapter's factors: which there are, how they begin, how they are stacked for the decoder's matrices."""

from __future__ import annotations

import numpy as np
import pytest
from adapter_cases import _GEMMA3 as CONFIG

from gemcut.errors import UsageError
from gemcut.tune.recipe import LoraSettings

pytestmark = [pytest.mark.backend, pytest.mark.keras]


def numpy_of(tensor):
    return tensor.detach().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)


def lora_of(seed=0, **settings):
    from gemcut.tune.lora import Lora

    return Lora(CONFIG, LoraSettings(**settings), "float32", seed)


def test_factors_begin_as_those_of_peft(engine):
    factors = dict(lora_of(rank=64).initial())
    assert len(factors) == 2 * 7 * CONFIG.num_hidden_layers
    assert all(not values.any() for name, values in factors.items() if name.endswith("lora_B"))
    down = factors["model.layers.1.mlp.down_proj.lora_A"]
    assert down.shape == (64, CONFIG.intermediate_size)
    bound = CONFIG.intermediate_size**-0.5  # kaiming_uniform_ with a = sqrt(5)
    assert 0.95 * bound < np.abs(down).max() <= bound
    assert down.std() == pytest.approx(bound / 3**0.5, rel=0.05)
    again, other = dict(lora_of(rank=64).initial()), dict(lora_of(seed=1, rank=64).initial())
    assert np.array_equal(again["model.layers.1.mlp.down_proj.lora_A"], down)
    assert not np.array_equal(other["model.layers.1.mlp.down_proj.lora_A"], down)


@pytest.mark.parametrize(("settings", "scale"), [({}, 2.0), ({"rslora": True}, 8.0), ({"alpha": 4.0}, 0.25)])
def test_scale(settings, scale, engine):
    assert lora_of(**settings).scale == scale


def test_stacked_factors_are_those_that_the_engines_make(engine):
    """The same as `gemcut.model.adapter` makes of a finished adapter, where one of three matrices has none."""
    from keras import ops

    from gemcut.config.parameters import layer_shapes
    from gemcut.model.adapter import stacked_update

    method = lora_of(rank=3, targets=("v_proj", "q_proj"))
    assert method.targets == ("self_attn.q_proj", "self_attn.v_proj")
    generator = np.random.default_rng(0)
    trained = {name: generator.standard_normal(values.shape, dtype=np.float32) for name, values in method.initial()}
    parts = tuple(f"model.layers.1.self_attn.{part}_proj.weight" for part in "qkv")
    rows = tuple(layer_shapes(CONFIG)[part.removeprefix("model.layers.1.")][0] for part in parts)
    expected = stacked_update(parts, rows, method.updates(trained))
    tensors = {name: ops.convert_to_tensor(values) for name, values in trained.items()}
    weights = method.layer_weights({"input_layernorm.weight": None}, method.of_layer(tensors, 1))
    assert list(weights) == ["input_layernorm.weight", "self_attn.qkv_proj.lora_a", "self_attn.qkv_proj.lora_b"]
    for side, values in zip("ab", expected, strict=True):
        found = numpy_of(weights[f"self_attn.qkv_proj.lora_{side}"])
        np.testing.assert_allclose(found, values, rtol=1e-6, atol=0)


def test_a_target_that_names_nothing(engine):
    with pytest.raises(
        UsageError, match=r"'qkv' names no matrix of the layers, expected some of q_proj, k_proj, v_proj"
    ):
        lora_of(targets=("q_proj", "qkv"))


def test_dropout_is_refused(engine):
    with pytest.raises(UsageError, match=r"lora.dropout is 0.1, expected 0: there is no dropout yet"):
        lora_of(dropout=0.1)
