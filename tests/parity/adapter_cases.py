"""Shrunk base models that the golden adapters in tests/golden/peft belong to; the same numbers on every machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from gemcut.config import FULL_ATTENTION, SLIDING_ATTENTION, DecoderConfig, RopeParameters, config_to_hf
from gemcut.config.parameters import parameter_shapes

GOLDEN = Path(__file__).parents[1] / "golden" / "peft"
EXPECTED = "expected.safetensors"  # token_ids (T,), logits (T, V) and those without the adapter, plain_logits
NUM_TOKENS = 21  # beyond the window
_SIZES: dict[str, Any] = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "query_pre_attn_scalar": 8,
}
_FULL = {
    "layer_types": (FULL_ATTENTION,) * 2,
    "sliding_window": None,
    "rope_parameters": ((FULL_ATTENTION, RopeParameters()),),
}
_GEMMA3 = DecoderConfig(
    **_SIZES,
    layer_types=(SLIDING_ATTENTION, FULL_ATTENTION),
    sliding_window=8,
    rope_parameters=((SLIDING_ATTENTION, RopeParameters()), (FULL_ATTENTION, RopeParameters(1e6))),
    post_norms=True,
    qk_norm=True,
    model_type="gemma3_text",
)
_GEMMA = DecoderConfig(**_SIZES, **_FULL)
_LLAMA = DecoderConfig(
    **_SIZES,
    **_FULL,
    hidden_activation="silu",
    scale_embeddings=False,
    norm_unit_offset=False,
    tie_word_embeddings=False,
    bos_token_id=1,
    eos_token_ids=(2,),
    pad_token_id=None,
    model_type="llama",
)


@dataclasses.dataclass(frozen=True)
class AdapterCase:
    """A base model, and peft's settings for an adapter of it."""

    name: str
    config: DecoderConfig
    settings: dict[str, Any]


CASES = [
    AdapterCase("every-matrix", _GEMMA3, {"r": 4, "lora_alpha": 6, "target_modules": "all-linear"}),
    AdapterCase(
        "one-layer",
        _GEMMA,
        {"r": 3, "use_rslora": True, "target_modules": ["q_proj", "down_proj"], "layers_to_transform": [1]},
    ),
    AdapterCase(
        "patterns",
        _LLAMA,
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": r".*\.(k_proj|o_proj|up_proj)",
            "exclude_modules": ["layers.0.mlp.up_proj"],
            "rank_pattern": {"k_proj": 2},
            "alpha_pattern": {r"layers\.1\.self_attn\.k_proj": 5},
        },
    ),
]


def write_base(config: DecoderConfig, folder: Path) -> Path:
    """Write a model of the configuration as Hugging Face has it, in float32, without a tokenizer."""
    generator = np.random.default_rng(17)
    weights = {}
    for name, shape in parameter_shapes(config).items():
        noise = generator.standard_normal(shape, dtype=np.float32)
        if len(shape) == 1:
            weights[name] = np.float32(0.3) * noise + np.float32(not config.norm_unit_offset)
        else:
            weights[name] = noise * np.float32(1.0 if "embed" in name else 1.2 / shape[1] ** 0.5)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_to_hf(config)), encoding="utf-8")
    safetensors.numpy.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder
