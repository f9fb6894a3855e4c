"""config.json in its old and new forms, against transformers' own configuration classes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import transformers

from gemcut.config import PUBLISHED, DecoderConfig, RopeParameters, config_from_hf, config_to_hf
from gemcut.errors import ConfigError

LINEAR_8 = {"rope_type": "linear", "factor": 8.0}
SMALL = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 7}

# Each of these, written by transformers, must be read as transformers itself understands it.
WRITTEN = {
    "gemma": transformers.GemmaConfig(),
    "gemma small": transformers.GemmaConfig(**SMALL, head_dim=32, rms_norm_eps=1e-5),
    "gemma2": transformers.Gemma2Config(),
    "gemma2 27B scale, no caps": transformers.Gemma2Config(
        **SMALL, query_pre_attn_scalar=144, attn_logit_softcapping=None, final_logit_softcapping=None
    ),
    "gemma2 all full": transformers.Gemma2Config(**SMALL, layer_types=["full_attention"] * 7),
    "gemma3": transformers.Gemma3TextConfig(),
    "gemma3 divided by 8": transformers.Gemma3TextConfig(**SMALL, rope_scaling=LINEAR_8, sliding_window=1024),
    "gemma3 other bases": transformers.Gemma3TextConfig(
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 5e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
        }
    ),
    "gemma3 pattern": transformers.Gemma3TextConfig(**SMALL, sliding_window_pattern=3),
    "llama": transformers.LlamaConfig(),
    "llama linear": transformers.LlamaConfig(rope_scaling={"type": "linear", "factor": 2.0}, rope_theta=5e5),
    "llama grouped": transformers.LlamaConfig(**SMALL, tie_word_embeddings=True, eos_token_id=[2, 3]),
    "mistral": transformers.MistralConfig(),
    "mistral without window": transformers.MistralConfig(**SMALL, sliding_window=None, head_dim=32),
}


def hf_value(written: Any, name: str) -> Any:
    return getattr(written, name, None)


@pytest.mark.parametrize("form", ["all keys", "only what differs"])
@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_reads_what_transformers_writes(written: Any, form: str) -> None:
    text = written.to_json_string(use_diff=form != "all keys")
    config = config_from_hf(json.loads(text), "config.json")
    for name in (
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
        "max_position_embeddings rms_norm_eps tie_word_embeddings bos_token_id pad_token_id model_type "
        "attn_logit_softcapping final_logit_softcapping"
    ).split():
        assert getattr(config, name) == hf_value(written, name), name
    eos = written.eos_token_id
    assert config.eos_token_ids == tuple(eos if isinstance(eos, list) else [eos])
    assert config.hidden_activation == (hf_value(written, "hidden_activation") or written.hidden_act)
    assert config.query_pre_attn_scalar == (hf_value(written, "query_pre_attn_scalar") or written.head_dim)
    window = hf_value(written, "sliding_window")
    kinds = hf_value(written, "layer_types") or ["sliding_attention" if window else "full_attention"] * 32
    if written.model_type in ("gemma", "llama", "mistral"):
        kinds = kinds[:1] * written.num_hidden_layers
    assert list(config.layer_types) == kinds
    assert config.sliding_window == (window if "sliding_attention" in kinds else None)
    for kind, rope in config.rope_parameters:
        parameters = written.rope_parameters.get(kind, written.rope_parameters)
        assert rope == RopeParameters(parameters["rope_theta"], parameters.get("factor", 1.0))
    is_gemma = written.model_type.startswith("gemma")
    assert (config.scale_embeddings, config.norm_unit_offset) == (is_gemma, is_gemma)
    assert config.post_norms == (written.model_type in ("gemma2", "gemma3_text"))
    assert config.qk_norm == (written.model_type == "gemma3_text")


def same_arithmetic(config: DecoderConfig, other: DecoderConfig) -> bool:
    ids = {"bos_token_id": None, "pad_token_id": None, "eos_token_ids": ()}
    return dataclasses.replace(config, **ids) == dataclasses.replace(other, **ids)


# The forms in which the publishers' files came; only keys with a meaning are kept.
PUBLISHED_FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "first Gemma 1, hidden_act gelu": (
        "gemma-2b",
        {"model_type": "gemma", "hidden_act": "gelu", "head_dim": 256, "hidden_size": 2048, "intermediate_size": 16384}
        | {"max_position_embeddings": 8192, "num_attention_heads": 8, "num_hidden_layers": 18, "rms_norm_eps": 1e-06}
        | {"num_key_value_heads": 1, "rope_scaling": None, "rope_theta": 10000.0, "vocab_size": 256000}
        | {"attention_bias": False, "attention_dropout": 0.0, "torch_dtype": "bfloat16", "use_cache": True},
    ),
    "Gemma 2 at launch": (
        "gemma-2-27b",
        {"model_type": "gemma2", "hidden_size": 4608, "intermediate_size": 36864, "num_hidden_layers": 46}
        | {"num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128, "query_pre_attn_scalar": 144}
        | {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 4096}
        | {"sliding_window_size": 4096, "cache_implementation": "hybrid", "attn_logit_softcapping": 50.0}
        | {"final_logit_softcapping": 30.0, "rope_theta": 10000.0},
    ),
    "Gemma 3 text, old keys": (
        "gemma-3-1b-pt",
        {"model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26}
        | {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144}
        | {"rope_theta": 1000000, "rope_local_base_freq": 10000, "rope_scaling": None, "sliding_window": 512}
        | {"sliding_window_pattern": 6, "query_pre_attn_scalar": 256, "max_position_embeddings": 32768}
        | {"attn_logit_softcapping": None, "final_logit_softcapping": None},
    ),
    "Gemma 3 with vision, most keys left out": (
        "gemma-3-27b-pt",
        {"model_type": "gemma3", "eos_token_id": [1, 106], "mm_tokens_per_image": 256, "vision_config": {"any": 1}}
        | {"boi_token_index": 255999, "eoi_token_index": 256000, "image_token_index": 262144}
        | {
            "text_config": {"model_type": "gemma3_text", "hidden_size": 5376, "intermediate_size": 21504}
            | {"num_hidden_layers": 62, "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128}
            | {"query_pre_attn_scalar": 168, "sliding_window": 1024, "rope_scaling": LINEAR_8, "vocab_size": 262144}
        },
    ),
    "Llama 2": (
        "llama-2-7b",
        {"model_type": "llama", "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008}
        | {"max_position_embeddings": 4096, "num_attention_heads": 32, "num_hidden_layers": 32, "pretraining_tp": 1}
        | {"num_key_value_heads": 32, "rms_norm_eps": 1e-05, "rope_scaling": None, "vocab_size": 32000},
    ),
    "Mistral v0.1": (
        "mistral-7b-v0.1",
        {"model_type": "mistral", "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336}
        | {"max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32, "rms_norm_eps": 1e-05}
        | {"num_key_value_heads": 8, "rope_theta": 10000.0, "sliding_window": 4096, "vocab_size": 32000},
    ),
}


@pytest.mark.parametrize(("name", "data"), PUBLISHED_FILES.values(), ids=PUBLISHED_FILES)
def test_reads_published_files(name: str, data: dict[str, Any]) -> None:
    assert same_arithmetic(config_from_hf(data, "config.json"), PUBLISHED[name].config)


def test_outer_token_ids_and_defaults_of_a_multimodal_file() -> None:
    config = config_from_hf(PUBLISHED_FILES["Gemma 3 with vision, most keys left out"][1], "config.json")
    assert config.eos_token_ids == (1, 106)
    assert config.model_type == "gemma3_text"
    empty = config_from_hf({"model_type": "gemma3", "text_config": {}}, "config.json")
    nulls = {"model_type": "gemma3", "text_config": {}, "pad_token_id": None, "eos_token_id": None}
    assert config_from_hf(nulls, "config.json") == empty
    assert empty.vocab_size == transformers.Gemma3TextConfig().vocab_size == 262_208


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_survive_a_round_trip(name: str) -> None:
    config = PUBLISHED[name].config
    data = json.loads(json.dumps(config_to_hf(config)))
    assert config_from_hf(data, "config.json") == config


@pytest.mark.parametrize(
    "name", ["gemma-2b", "gemma-2-9b", "gemma-3-270m", "gemma-3-27b-pt", "llama-2-7b", "mistral-7b-v0.1"]
)
def test_transformers_reads_what_is_written(name: str) -> None:
    config = PUBLISHED[name].config
    written = transformers.AutoConfig.for_model(**config_to_hf(config))
    assert config_from_hf(json.loads(written.to_json_string(use_diff=False)), "config.json") == config


def test_transformers_reads_again_what_was_read_and_written() -> None:
    """It takes no 256.0 where it writes 256."""
    read = config_from_hf(json.loads(json.dumps(config_to_hf(PUBLISHED["gemma-3-270m"].config))), "config.json")
    written = config_to_hf(read)
    assert isinstance(written["query_pre_attn_scalar"], int)
    assert transformers.AutoConfig.for_model(**written).query_pre_attn_scalar == 256


def minimal(model_type: str, **keys: Any) -> dict[str, Any]:
    return {"model_type": model_type, **keys}


REFUSED = {
    "no object": ([], "is a list, expected a JSON object"),
    "unknown family": (minimal("qwen3"), "model_type is 'qwen3', expected one of gemma, gemma2"),
    "no family": ({}, "model_type is null, expected one of"),
    "unknown key": (minimal("gemma", novel_gate=2), r"key 'novel_gate' \(= 2\) is not known .* could change"),
    "biases": (minimal("llama", attention_bias=True), "attention_bias is true, expected false"),
    "feed-forward biases": (minimal("llama", mlp_bias=True), "mlp_bias is true, expected false"),
    "both directions": (
        minimal("gemma3_text", use_bidirectional_attention=True),
        "use_bidirectional_attention is true, expected false or null",
    ),
    "tensor parallel": (minimal("llama", pretraining_tp=2), "pretraining_tp is 2, expected 1"),
    "quantised": (
        minimal("gemma", quantization_config={"bits": 4}),
        "quantization_config is {'bits': 4}, expected null",
    ),
    "caps in Gemma 1": (
        minimal("gemma", final_logit_softcapping=30.0),
        "final_logit_softcapping is 30.0, expected null",
    ),
    "YaRN": (
        minimal("llama", rope_scaling={"type": "yarn", "factor": 4.0}),
        "rope_scaling: rope type 'yarn' is not supported, expected 'default' or 'linear'",
    ),
    "Llama 3 scaling": (
        minimal("llama", rope_parameters={"rope_type": "llama3", "factor": 8.0}),
        "rope_parameters: rope type 'llama3' is not supported",
    ),
    "partial rotation": (
        minimal("llama", rope_parameters={"partial_rotary_factor": 0.5}),
        "partial_rotary_factor is 0.5; this key is not supported there",
    ),
    "factor without type": (minimal("llama", rope_scaling={"factor": 4.0}), "factor is 4.0, but rope type 'default'"),
    "both rope forms": (
        minimal("llama", rope_scaling=LINEAR_8, rope_parameters=LINEAR_8),
        "has both rope_scaling and rope_parameters",
    ),
    "rope as text": (minimal("llama", rope_scaling="linear"), "rope_scaling is 'linear', expected an object"),
    "one rope as text": (
        minimal("gemma3_text", rope_parameters={"full_attention": "linear"}),
        "rope_parameters has 'linear' for a layer type, expected an object",
    ),
    "one rope for two bases": (
        minimal("gemma3_text", rope_parameters={"rope_theta": 1e6}),
        "expected one entry for each of sliding_attention, full_attention",
    ),
    "rope keys mixed": (
        minimal("gemma3_text", rope_parameters={"full_attention": {}, "rope_theta": 1.0}),
        "rope_parameters has the key 'rope_theta' beside its layer types",
    ),
    "exact GELU": (minimal("gemma2", hidden_activation="gelu"), "hidden_activation 'gelu' is not one of"),
    "size as text": (
        minimal("gemma", hidden_size="2048"),
        "config.json: hidden_size is '2048', expected a whole number",
    ),
    "layers as text": (minimal("gemma", num_hidden_layers="18"), "num_hidden_layers is '18', expected a number of"),
    "theta as text": (minimal("gemma", rope_theta="1e4"), "rope_theta is '1e4', expected a number"),
    "tying as text": (minimal("gemma", tie_word_embeddings="yes"), "tie_word_embeddings is 'yes', expected true or"),
    "id as text": (minimal("gemma", bos_token_id="2"), "bos_token_id is '2', expected a token id or null"),
    "window as text": (minimal("mistral", sliding_window="4k"), "sliding_window is '4k', expected a number of tokens"),
    "two windows": (minimal("gemma2", sliding_window_size=8), "sliding_window_size is 8, but sliding_window is 4096"),
    "period below 1": (minimal("gemma3_text", sliding_window_pattern=-1), "sliding_window_pattern is -1, expected"),
    "layer types as text": (minimal("gemma2", layer_types="full"), "layer_types is 'full', expected a list of"),
    "too few layer types": (
        minimal("gemma2", layer_types=["full_attention"]),
        "layer_types has 1 entries, expected 26",
    ),
    "inner part missing": (minimal("gemma3", text_config=[1]), r"text_config is \[1\], expected an object"),
    "tying twice": (
        minimal("gemma3", tie_word_embeddings=True, text_config={"tie_word_embeddings": False}),
        "tie_word_embeddings is True outside and False inside text_config",
    ),
    "unknown outer key": (minimal("gemma3", audio_config={}), "key 'audio_config'"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses_what_it_would_compute_differently(data: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from_hf(data, "config.json")


UNWRITABLE = {
    "unknown family": ({"model_type": "phi"}, "model_type is 'phi', expected one of gemma"),
    "caps": (
        {"attn_logit_softcapping": 50.0},
        "attn_logit_softcapping is 50.0, but a config.json of model_type 'gemma'",
    ),
    "post-norms": (
        {"post_norms": True},
        "post_norms is true, but a config.json of model_type 'gemma' can only say false",
    ),
    "query scale": ({"query_pre_attn_scalar": 144.0}, "query_pre_attn_scalar is 144.0, but"),
}


@pytest.mark.parametrize(("changes", "message"), UNWRITABLE.values(), ids=UNWRITABLE)
def test_refuses_to_write_another_decoder(changes: dict[str, Any], message: str) -> None:
    config = dataclasses.replace(PUBLISHED["gemma-2b"].config, **changes)
    with pytest.raises(ConfigError, match=message):
        config_to_hf(config)
