"""Every published size: names, shapes and counts follow from its configuration, and no weight is allocated."""

import math

import pytest

from gemcut.config import PUBLISHED, SLIDING_ATTENTION, published, same_decoder
from gemcut.config.parameters import num_parameters, parameter_shapes
from gemcut.errors import NotFoundError

# Published counts, copied a second time from the models' cards, by the decoder that the models share.
COUNTS = {
    "gemma-2b gemma-2b-it gemma-1.1-2b-it codegemma-2b codegemma-1.1-2b": 2_506_172_416,
    "gemma-7b gemma-7b-it gemma-1.1-7b-it codegemma-7b codegemma-7b-it codegemma-1.1-7b-it": 8_537_680_896,
    "gemma-2-2b gemma-2-2b-it shieldgemma-2b": 2_614_341_888,
    "gemma-2-9b gemma-2-9b-it shieldgemma-9b": 9_241_705_984,
    "gemma-2-27b gemma-2-27b-it shieldgemma-27b": 27_227_128_320,
    "gemma-3-270m gemma-3-270m-it functiongemma-270m-it": 268_098_176,
    "gemma-3-1b-pt gemma-3-1b-it": 999_885_952,
    "gemma-3-4b-pt gemma-3-4b-it": 3_880_099_328,
    "gemma-3-12b-pt gemma-3-12b-it": 11_765_788_416,
    "gemma-3-27b-pt gemma-3-27b-it": 27_009_002_240,
    "llama-2-7b llama-2-7b-chat": 6_738_415_616,
    "llama-2-13b llama-2-13b-chat": 13_015_864_320,
    "mistral-7b-v0.1 mistral-7b-instruct-v0.1": 7_241_732_096,
    "mistral-7b-v0.3 mistral-7b-instruct-v0.3": 7_248_023_552,
}
COUNT_OF = {name: count for names, count in COUNTS.items() for name in names.split()}
every_model = pytest.mark.parametrize("model", PUBLISHED.values(), ids=list(PUBLISHED))


def test_table_holds_the_models_of_the_design():
    assert set(PUBLISHED) == set(COUNT_OF)


@every_model
def test_parameters_follow_from_the_config_to_the_unit(model):
    assert num_parameters(model.config) == model.num_parameters == COUNT_OF[model.name]


@every_model
def test_names_and_shapes_follow_from_the_config(model):
    config, shapes = model.config, parameter_shapes(model.config)
    norms = 2 + 2 * config.post_norms + 2 * config.qk_norm
    assert len(shapes) == config.num_hidden_layers * (7 + norms) + 2 + (not config.tie_word_embeddings)
    assert shapes["model.embed_tokens.weight"] == (config.vocab_size, config.hidden_size)
    last = f"model.layers.{config.num_hidden_layers - 1}"
    width = config.num_attention_heads * config.head_dim
    assert shapes[f"{last}.self_attn.o_proj.weight"] == (config.hidden_size, width)
    assert sum(math.prod(shape) for shape in shapes.values()) == model.num_parameters


@every_model
def test_row_is_complete(model):
    assert model.name == model.name.lower()
    assert model.huggingface.count("/") == 1
    assert model.kaggle is None or model.kaggle.count("/") == 3
    assert model.licence.url.startswith("https://")
    assert model.context <= model.config.max_position_embeddings
    assert model.instruction_tuned == (model.chat_template is not None)


@pytest.mark.parametrize(
    ("name", "field", "expected"),
    [
        pytest.param("gemma-2-27b", "query_pre_attn_scalar", 144, id="gemma-2-27b-query-scale"),
        pytest.param("gemma-2-9b", "query_pre_attn_scalar", 256, id="gemma-2-9b-query-scale"),
        pytest.param("gemma-3-27b-it", "query_pre_attn_scalar", 168, id="gemma-3-27b-query-scale"),
        pytest.param("gemma-2-2b", "attn_logit_softcapping", 50.0, id="gemma-2-soft-cap"),
        pytest.param("gemma-3-4b-pt", "vocab_size", 262_144, id="gemma-3-4b-text-rows"),
        pytest.param("gemma-2b-it", "eos_token_ids", (1, 107), id="gemma-1-stops"),
        pytest.param("gemma-3-1b-it", "eos_token_ids", (1, 106), id="gemma-3-stops"),
        pytest.param("functiongemma-270m-it", "eos_token_ids", (1, 50, 106), id="functiongemma-stops"),
        pytest.param("llama-2-7b", "rms_norm_eps", 1e-5, id="llama-epsilon"),
        pytest.param("mistral-7b-v0.3", "sliding_window", None, id="mistral-v0.3-window"),
        pytest.param("mistral-7b-v0.1", "sliding_window", 4096, id="mistral-v0.1-window"),
    ],
)
def test_known_traps(name, field, expected):
    assert getattr(published(name).config, field) == expected


@pytest.mark.parametrize(
    ("name", "factor", "sliding_layers"),
    [("gemma-3-270m", 1.0, 15), ("gemma-3-1b-pt", 1.0, 22), ("gemma-3-4b-pt", 8.0, 29), ("gemma-3-27b-it", 8.0, 52)],
)
def test_gemma_3_scales_positions_of_global_layers_of_the_large_sizes_only(name, factor, sliding_layers):
    config = published(name).config
    ropes = dict(config.rope_parameters)
    assert ropes["full_attention"].factor == factor
    assert ropes["sliding_attention"].factor == 1.0
    assert config.layer_types.count(SLIDING_ATTENTION) == sliding_layers


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param(
            "gemma-2b-instruct", "gemma-2b-instruct: no published model .* Close names: .*gemma-2b-it", id="close"
        ),
        pytest.param(
            "qqq", "qqq: no published model has this name. Known names run from codegemma-1.1-2b to", id="far"
        ),
    ],
)
def test_unknown_names_are_answered_with_known_ones(name, message):
    with pytest.raises(NotFoundError, match=message):
        published(name)


def test_same_decoder_ignores_what_is_no_arithmetic():
    names = [model.name for model in same_decoder(published("gemma-3-270m-it").config)]
    assert names == ["gemma-3-270m", "gemma-3-270m-it", "functiongemma-270m-it"]
