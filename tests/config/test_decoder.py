"""The decoder's configuration refuses contradictions, and answers for its layers."""

import dataclasses

import pytest

from gemcut.config import FULL_ATTENTION, SLIDING_ATTENTION, DecoderConfig, RopeParameters
from gemcut.errors import ConfigError

BASE = DecoderConfig(
    vocab_size=64,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=128,
    layer_types=(SLIDING_ATTENTION, SLIDING_ATTENTION, FULL_ATTENTION),
    sliding_window=16,
    rope_parameters=((SLIDING_ATTENTION, RopeParameters()), (FULL_ATTENTION, RopeParameters(1e6, 8.0))),
    query_pre_attn_scalar=64,
)
ONE_ROPE = ((SLIDING_ATTENTION, RopeParameters()),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"vocab_size": 0}, "config: vocab_size is 0, expected a whole number of at least 1", id="zero"),
        pytest.param({"hidden_size": 16.0}, "config: hidden_size is 16.0, expected a whole number", id="float"),
        pytest.param({"head_dim": True}, "config: head_dim is True, expected a whole number", id="bool"),
        pytest.param(
            {"num_key_value_heads": 3},
            "config: num_attention_heads 4 is not a multiple of num_key_value_heads 3",
            id="heads",
        ),
        pytest.param({"head_dim": 7}, "config: head_dim is 7, expected an even number", id="odd-head"),
        pytest.param(
            {"layer_types": (FULL_ATTENTION,)},
            "config: layer_types has 1 entries, expected 3 = num_hidden_layers",
            id="layers",
        ),
        pytest.param(
            {"layer_types": (FULL_ATTENTION, FULL_ATTENTION, "linear")},
            "config: layer type 'linear' is not one of sliding_attention, full_attention",
            id="layer-type",
        ),
        pytest.param(
            {"rope_parameters": ONE_ROPE}, "config: rope_parameters has no entry for 'full_attention'", id="rope"
        ),
        pytest.param(
            {"sliding_window": None}, "config: sliding_window is None, but layer_types has sliding layers", id="window"
        ),
        pytest.param(
            {"hidden_activation": "relu"},
            "config: hidden_activation 'relu' is not one of gelu_pytorch_tanh, silu",
            id="activation",
        ),
        pytest.param(
            {"rms_norm_eps": 0.0}, "config: rms_norm_eps is 0.0, expected a number above 0", id="zero-epsilon"
        ),
        pytest.param(
            {"query_pre_attn_scalar": float("nan")}, "config: query_pre_attn_scalar is nan, expected", id="nan-scale"
        ),
        pytest.param(
            {"final_logit_softcapping": -30.0}, "config: final_logit_softcapping is -30.0, expected", id="cap"
        ),
        pytest.param(
            {"rope_parameters": (*ONE_ROPE, (FULL_ATTENTION, RopeParameters(1e6, 0.0)))},
            r"config: rope_parameters\[full_attention\].factor is 0.0, expected a number above 0",
            id="rope-factor",
        ),
    ],
)
def test_contradictions_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(BASE, **changes)


def test_layers_answer_by_their_type():
    assert [BASE.window(index) for index in range(3)] == [16, 16, None]
    assert [BASE.rope(index).rope_theta for index in range(3)] == [1e4, 1e4, 1e6]
    assert BASE.query_scale == 0.125
