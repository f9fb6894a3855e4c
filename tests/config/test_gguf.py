"""GGUF metadata to a configuration and back, and what a file leaves to its reader."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from gemcut.config import FULL_ATTENTION, PUBLISHED, SLIDING_ATTENTION, RopeParameters, config_from_gguf, config_to_gguf
from gemcut.errors import ConfigError

END_IDS = [f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom")]
TOKENIZER = {"bos_token_id": "bos_token_id", "padding_token_id": "pad_token_id"}


def metadata_of(architecture: str, **changes: Any) -> dict[str, Any]:
    """The least that a file of each architecture has; a change to None takes a key away."""
    keys: dict[str, Any] = {
        "context_length": 8192,
        "embedding_length": 64,
        "block_count": 7,
        "feed_forward_length": 128,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.key_length": 32,
        "attention.layer_norm_rms_epsilon": float(np.float32(1e-6)),
    }
    keys |= {key.replace("__", "."): value for key, value in changes.items()}
    found = {f"{architecture}.{key}": value for key, value in keys.items() if value is not None}
    return {"general.architecture": architecture, "tokenizer.ggml.tokens": ["a"] * 99} | found


def as_float32(metadata: dict[str, Any]) -> dict[str, Any]:
    """Floats as they come back from a file."""
    return {key: float(np.float32(value)) if isinstance(value, float) else value for key, value in metadata.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_survive_a_round_trip(name: str) -> None:
    config = PUBLISHED[name].config
    metadata = as_float32(config_to_gguf(config))
    metadata |= {f"tokenizer.ggml.{key}": getattr(config, field) for key, field in TOKENIZER.items()}
    metadata |= dict(zip(END_IDS, config.eos_token_ids, strict=False))
    metadata["general.name"] = name
    shapes = {} if config.tie_word_embeddings else {"output.weight": (config.vocab_size, config.hidden_size)}
    assert config_from_gguf(metadata, "m.gguf", shapes) == config


def test_keys_are_named_as_llama_cpp_does() -> None:
    metadata = config_to_gguf(PUBLISHED["gemma-3-4b-pt"].config)
    assert metadata["general.architecture"] == "gemma3"
    assert metadata["gemma3.rope.scaling.type"] == "linear"
    assert metadata["gemma3.rope.scaling.factor"] == 8.0
    assert metadata["gemma3.attention.sliding_window"] == 1024
    assert "gemma3.attention.sliding_window_pattern" not in metadata


def test_gemma3_implies_its_pattern_and_local_base() -> None:
    metadata = metadata_of("gemma3", attention__sliding_window=512, rope__freq_base=1e6)
    metadata |= {"gemma3.rope.scaling.type": "linear", "gemma3.rope.scaling.factor": 8.0}
    config = config_from_gguf(metadata, "m.gguf")
    assert config.layer_types == (*[SLIDING_ATTENTION] * 5, FULL_ATTENTION, SLIDING_ATTENTION)
    assert dict(config.rope_parameters) == {
        SLIDING_ATTENTION: RopeParameters(10_000.0),
        FULL_ATTENTION: RopeParameters(1e6, 8.0),
    }
    assert (config.rms_norm_eps, config.query_pre_attn_scalar, config.vocab_size) == (1e-6, 32, 99)
    assert (config.post_norms, config.qk_norm, config.model_type) == (True, True, "gemma3_text")


def test_another_local_base_is_written_and_read() -> None:
    config = PUBLISHED["gemma-3-270m"].config
    ropes = ((SLIDING_ATTENTION, RopeParameters(20_000.0)), (FULL_ATTENTION, RopeParameters(1e6)))
    config = dataclasses.replace(config, rope_parameters=ropes)
    metadata = config_to_gguf(config)
    assert metadata["gemma3.rope.freq_base_swa"] == 20_000.0
    assert config_from_gguf(metadata, "m.gguf").rope_parameters == ropes


@pytest.mark.parametrize(
    ("architecture", "layers", "scalar"),
    [("gemma2", 46, 16), ("gemma2", 42, 32), ("gemma3", 62, 16), ("gemma3", 46, 32), ("gemma", 46, 32)],
)
def test_27b_query_scale_follows_from_the_number_of_layers(architecture: str, layers: int, scalar: int) -> None:
    config = config_from_gguf(metadata_of(architecture, block_count=layers), "m.gguf")
    assert config.query_pre_attn_scalar == scalar  # 64 wide / 4 heads, or the head's 32


def test_gemma2_implies_window_caps_and_even_sliding_layers() -> None:
    config = config_from_gguf(metadata_of("gemma2"), "m.gguf")
    assert config.sliding_window == 4096
    assert config.layer_types[:3] == (SLIDING_ATTENTION, FULL_ATTENTION, SLIDING_ATTENTION)
    assert (config.attn_logit_softcapping, config.final_logit_softcapping) == (50.0, 30.0)


@pytest.mark.parametrize(
    ("changes", "shapes", "field", "value"),
    [
        ({}, {}, "tie_word_embeddings", True),
        ({}, {"output.weight": (99, 64)}, "tie_word_embeddings", False),
        ({}, {"token_embd.weight": (128, 64)}, "vocab_size", 128),
        ({"vocab_size": 100}, {"token_embd.weight": (128, 64)}, "vocab_size", 100),
        ({"attention__sliding_window": 16}, {}, "layer_types", (SLIDING_ATTENTION,) * 7),
        ({"attention__sliding_window": 16}, {}, "model_type", "mistral"),
        ({"attention__head_count_kv": [2] * 7}, {}, "num_key_value_heads", 2),
        ({"attention__head_count_kv": None}, {}, "num_key_value_heads", 4),
        ({"attention__key_length": None}, {}, "head_dim", 16),
        ({"rope__scale_linear": 4.0}, {}, "rope_parameters", ((FULL_ATTENTION, RopeParameters(1e4, 4.0)),)),
        ({"rope__scaling__type": "linear"}, {}, "rope_parameters", ((FULL_ATTENTION, RopeParameters()),)),
        ({"tensor_data_layout": "Meta AI original pth", "expert_count": 0}, {}, "model_type", "llama"),
    ],
    ids=str,
)
def test_llama_files(changes: dict[str, Any], shapes: dict[str, tuple[int, ...]], field: str, value: Any) -> None:
    assert getattr(config_from_gguf(metadata_of("llama", **changes), "m.gguf", shapes), field) == value


@pytest.mark.parametrize(
    ("pattern", "layer_types"),
    [
        (2, (SLIDING_ATTENTION, FULL_ATTENTION) * 3 + (SLIDING_ATTENTION,)),
        ([True, False, False, True, False, False, False], None),
        ([False] * 7, (FULL_ATTENTION,) * 7),
    ],
    ids=["period", "list", "no sliding layer"],
)
def test_a_stored_pattern_wins(pattern: Any, layer_types: tuple[str, ...] | None) -> None:
    metadata = metadata_of("gemma3", attention__sliding_window=512, attention__sliding_window_pattern=pattern)
    config = config_from_gguf(metadata, "m.gguf")
    wanted = layer_types or tuple(SLIDING_ATTENTION if entry else FULL_ATTENTION for entry in pattern)
    assert config.layer_types == wanted
    assert config.sliding_window == (512 if SLIDING_ATTENTION in wanted else None)
    if config.sliding_window:
        assert config_from_gguf(config_to_gguf(config), "m.gguf").layer_types == wanted


def test_a_family_member_is_known_by_its_name() -> None:
    metadata = metadata_of("llama") | {"general.name": "Mistral 7B Instruct v0.3"}
    assert config_from_gguf(metadata, "m.gguf").model_type == "mistral"


@pytest.mark.parametrize("ids", [(1,), (1, 106), (1, 106, 50)], ids=["text", "turn", "message"])
def test_ends_of_turns_and_messages_count_as_ends(ids: tuple[int, ...]) -> None:
    metadata = metadata_of("gemma3") | dict(zip(END_IDS, ids, strict=False))
    assert config_from_gguf(metadata, "m.gguf").eos_token_ids == ids
    assert config_from_gguf(metadata | dict.fromkeys(END_IDS, 1), "m.gguf").eos_token_ids == (1,)


REFUSED = {
    "architecture": ({"general.architecture": "clip"}, "general.architecture is 'clip', expected one of gemma, gemma2"),
    "list as architecture": ({"general.architecture": [1]}, r"general.architecture is \[1\], expected one of gemma"),
    "no architecture": ({}, "general.architecture is None"),
    "unknown key": (metadata_of("gemma3", novel_gate=1), r"key 'gemma3.novel_gate' \(= 1\) is not known and could"),
    "experts": (metadata_of("llama", expert_count=8), "llama.expert_count is 8, expected 0: models with it"),
    "key missing": (metadata_of("gemma", block_count=None), "key 'gemma.block_count' is missing. The file is incom"),
    "eps missing": (metadata_of("gemma", attention__layer_norm_rms_epsilon=None), "rms_epsilon' is missing"),
    "number as text": (metadata_of("gemma", embedding_length="64"), "embedding_length is '64', expected one whole"),
    "unequal layers": (
        metadata_of("gemma", feed_forward_length=[1, 2]),
        r"feed_forward_length is \[1, 2\], expected one whole number",
    ),
    "float as text": (metadata_of("gemma", rope__freq_base="1e4"), "rope.freq_base is '1e4', expected a number"),
    "value width": (metadata_of("gemma", attention__value_length=64), "value_length is 64, expected 32, the width of"),
    "partial rotation": (metadata_of("llama", rope__dimension_count=16), "rope.dimension_count is 16, expected 32"),
    "YaRN": (metadata_of("llama", rope__scaling__type="yarn"), "rope.scaling.type is 'yarn', expected 'none' or"),
    "pattern": (
        metadata_of("gemma3", attention__sliding_window=8, attention__sliding_window_pattern=[True]),
        r"sliding_window_pattern is \[True\], expected a whole number above 0 or a list of 7 booleans",
    ),
    "absurd layers": (
        metadata_of("gemma", block_count=2**31),
        "block_count is 2147483648, expected a number of layers",
    ),
    "no heads": (metadata_of("gemma", attention__head_count=0), "m.gguf: num_attention_heads is 0, expected"),
    "odd heads": (metadata_of("gemma", attention__key_length=31), "m.gguf: head_dim is 31, expected an even number"),
    "token id": (metadata_of("gemma") | {"tokenizer.ggml.bos_token_id": -1}, "bos_token_id is -1, expected a token id"),
    "no vocabulary": (
        {key: value for key, value in metadata_of("gemma").items() if key != "tokenizer.ggml.tokens"},
        "has no gemma.vocab_size, no token_embd.weight and no vocabulary",
    ),
}


@pytest.mark.parametrize(("metadata", "message"), REFUSED.values(), ids=REFUSED)
def test_refuses_what_it_would_compute_differently(metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from_gguf(metadata, "m.gguf")


UNWRITABLE = {
    "family": ("gemma-2b", {"model_type": "phi"}, "model_type is 'phi', expected one of gemma"),
    "scale": ("gemma-3-1b-pt", {"query_pre_attn_scalar": 168.0}, "query_pre_attn_scalar is 168.0, but GGUF's arch"),
    "caps": ("gemma-2-2b", {"final_logit_softcapping": None}, "final_logit_softcapping is None, but GGUF's arch"),
    "post-norms": ("llama-2-7b", {"post_norms": True}, "post_norms is True, but GGUF's architecture 'llama' implies"),
}


@pytest.mark.parametrize(("name", "changes", "message"), UNWRITABLE.values(), ids=UNWRITABLE)
def test_refuses_to_write_another_decoder(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_to_gguf(dataclasses.replace(PUBLISHED[name].config, **changes))
