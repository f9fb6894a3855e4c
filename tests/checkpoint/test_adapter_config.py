"""adapter_config.json: which modules, ranks and scales it means, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemcut.checkpoint.adapter_config import AdapterConfig, read_adapter_config
from gemcut.errors import CheckpointError, NotFoundError

LAYER_1, LAYER_2 = "model.layers.1.self_attn.q_proj", "model.layers.2.mlp.up_proj"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., AdapterConfig]:
    def parse(**settings: Any) -> AdapterConfig:
        path = tmp_path / "adapter_config.json"
        path.write_text(json.dumps({"peft_type": "LORA", "target_modules": ["q_proj"]} | settings))
        return read_adapter_config(path)

    return parse


@pytest.mark.parametrize(
    ("settings", "targeted"),
    [
        ({"target_modules": ["q_proj"]}, [LAYER_1]),
        ({"target_modules": ["self_attn.q_proj", LAYER_2]}, [LAYER_1, LAYER_2]),
        ({"target_modules": ["proj"]}, []),
        ({"target_modules": "all-linear"}, [LAYER_1, LAYER_2]),
        ({"target_modules": r".*\.(q|up)_proj"}, [LAYER_1, LAYER_2]),
        ({"target_modules": "q_proj"}, []),  # an expression for the whole name
        ({"target_modules": ["q_proj", "up_proj"], "exclude_modules": ["up_proj"]}, [LAYER_1]),
        ({"target_modules": "all-linear", "exclude_modules": r".*q_proj"}, [LAYER_2]),
        ({"target_modules": ["q_proj", "up_proj"], "layers_to_transform": 1}, [LAYER_1]),
        ({"target_modules": ["q_proj", "up_proj"], "layers_to_transform": [2, 5]}, [LAYER_2]),
        ({"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "layers"}, [LAYER_1]),
        ({"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": ["blocks"]}, []),
        ({"target_modules": ["q_proj", LAYER_2], "layers_to_transform": [0]}, [LAYER_2]),  # a whole name counts always
        ({"target_modules": ["q_proj"], "layers_to_transform": []}, [LAYER_1]),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else str(len(value)),
)
def test_targets(read, settings, targeted):
    config = read(**settings)
    assert [module for module in (LAYER_1, LAYER_2) if config.targets_module(module)] == targeted


@pytest.mark.parametrize(
    ("settings", "rank", "scale"),
    [
        ({}, 8, 1.0),  # peft's defaults
        ({"r": 4, "lora_alpha": 6}, 4, 1.5),
        ({"r": 4, "lora_alpha": 6.5, "use_rslora": True}, 4, 3.25),
        ({"r": 4, "lora_alpha": 6, "rank_pattern": {"q_proj": 2}}, 2, 3.0),
        ({"r": 4, "lora_alpha": 6, "rank_pattern": {"proj": 2, r"layers\.1\..*": 3}}, 3, 2.0),
        ({"r": 4, "lora_alpha": 6, "alpha_pattern": {"^model.layers.1.self_attn.q_proj": 2}}, 4, 0.5),
        ({"r": 4, "lora_alpha": 0}, 4, 0.0),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else str(value),
)
def test_rank_and_scale(read, settings, rank, scale):
    config = read(**settings)
    assert (config.rank_of(LAYER_1), config.scale_of(LAYER_1)) == (rank, scale)


def test_harmless_settings_are_read_over(read):
    config = read(
        lora_dropout=0.1,
        task_type="CAUSAL_LM",
        revision="main",
        loftq_config={},
        init_lora_weights="gaussian",
        bias="none",
    )
    assert config.base is None


BAD = {
    "other kind": ({"peft_type": "IA3"}, "peft_type is 'IA3', expected 'LORA'"),
    "no kind": ({"peft_type": None}, "peft_type is None, expected 'LORA'"),
    "DoRA": ({"use_dora": True}, "use_dora is True, which is not supported; expected plain LoRA"),
    "bias": ({"bias": "lora_only"}, "bias is 'lora_only', which is not supported"),
    "fan_in_fan_out": ({"fan_in_fan_out": True}, "fan_in_fan_out is True, which is not supported"),
    "saved modules": ({"modules_to_save": ["lm_head"]}, r"modules_to_save is \['lm_head'\], which is not supported"),
    "token indices": ({"trainable_token_indices": [3]}, r"trainable_token_indices is \[3\], which is not supported"),
    "replication": ({"layer_replication": [[0, 1]]}, "layer_replication is .* which is not supported"),
    "a later release's": ({"use_something_new": {"x": 1}}, "use_something_new is {'x': 1}, which is not supported"),
    "pissa": ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4', which changed the base model too"),
    "rank 0": ({"r": 0}, "r is 0, expected a whole number of at least 1"),
    "rank true": ({"r": True}, "r is True, expected a whole number"),
    "alpha": ({"lora_alpha": "8"}, "lora_alpha is '8', expected a number"),
    "rslora": ({"use_rslora": 1}, "use_rslora is 1, expected true or false"),
    "rank pattern": ({"rank_pattern": {"q_proj": 0}}, "rank_pattern is {'q_proj': 0}, expected whole numbers of at least 1 by module"),
    "alpha pattern": ({"alpha_pattern": ["q_proj"]}, r"alpha_pattern is \['q_proj'\], expected numbers by module"),
    "no targets": ({"target_modules": None}, r"target_modules is \(\), expected names of modules, or one expression"),
    "targets": ({"target_modules": [1]}, r"target_modules is \[1\], expected names of modules"),
    "expression": ({"target_modules": "(q_proj"}, r"target_modules has '\(q_proj', which is no regular expression"),
    "long expression": ({"target_modules": "q" * 1001}, "target_modules has .* no regular expression .longer than 1000 characters"),
    "layers": ({"layers_to_transform": ["1"]}, r"layers_to_transform is \['1'\], expected indices of layers"),
    "base": ({"base_model_name_or_path": 3}, "base_model_name_or_path is 3, expected a name"),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), BAD.values(), ids=BAD)
def test_refuses(read, settings, message):
    with pytest.raises(CheckpointError, match=f"adapter_config.json: {message}"):
        read(**settings)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", "is a list, expected a JSON object"),
        (b"{", "is not valid JSON"),
        (b'{"r": NaN}', "NaN is not a JSON number"),
    ],
    ids=["list", "cut", "NaN"],
)
def test_refuses_what_is_no_json_object(tmp_path, content, message):
    (tmp_path / "adapter_config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_adapter_config(tmp_path / "adapter_config.json")


def test_missing_file(tmp_path):
    with pytest.raises(NotFoundError, match="no such file"):
        read_adapter_config(tmp_path / "adapter_config.json")
