"""A small random Gemma 3 on the disk, for tests and for proofs that are not about what a model says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

TINY_TOKENIZER = Path(__file__).parents[1] / "text" / "data" / "tiny-gemma.model"


def write_tiny_model(folder: Path, **changes: Any) -> Path:
    """Write a folder as Hugging Face has it, with the tiny tokenizer (700 pieces); `changes` are of its configuration."""
    import safetensors.numpy

    from gemcut.config import FULL_ATTENTION, SLIDING_ATTENTION, DecoderConfig, RopeParameters, config_to_hf
    from gemcut.config.parameters import parameter_shapes

    sizes: dict[str, Any] = {
        "vocab_size": 704,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 120,
        "layer_types": (SLIDING_ATTENTION, FULL_ATTENTION),
        "sliding_window": 8,
        "rope_parameters": ((SLIDING_ATTENTION, RopeParameters()), (FULL_ATTENTION, RopeParameters(1e6))),
        "query_pre_attn_scalar": 16,
        "post_norms": True,
        "qk_norm": True,
        "tie_word_embeddings": False,  # a small tied model repeats its last token
        "model_type": "gemma3_text",
    }
    config = DecoderConfig(**(sizes | changes))
    generator = np.random.default_rng(0)
    weights = {}
    for name, shape in parameter_shapes(config).items():
        noise = generator.standard_normal(shape, dtype=np.float32)
        weights[name] = noise * np.float32(0.3 if len(shape) == 1 else 1.3 / shape[1] ** 0.5)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_to_hf(config)), encoding="utf-8")
    safetensors.numpy.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    shutil.copy(TINY_TOKENIZER, folder / "tokenizer.model")
    return folder
