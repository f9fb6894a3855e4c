"""Shrunk published configurations with random weights, written by transformers: the reference of the parity tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

VOCAB_SIZE = 199
WINDOW = 8
NUM_TOKENS = 29  # beyond the window, and no multiple of a bucket


@dataclasses.dataclass(frozen=True)
class Family:
    """One shrunk model: transformers' configuration class and what differs from `SMALL`."""

    name: str
    config_class: str
    settings: dict[str, Any]


SMALL = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "attn_implementation": "eager",
}
LINEAR_ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
}
PLAIN_ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    "full_attention": {"rope_type": "default", "rope_theta": 1_000_000.0},
}
FAMILIES = [
    Family("gemma", "GemmaConfig", {"num_hidden_layers": 2, "num_key_value_heads": 1}),
    Family("gemma-multi-head", "GemmaConfig", {"num_hidden_layers": 2, "num_key_value_heads": 4}),
    Family("gemma2", "Gemma2Config", {"num_hidden_layers": 3, "sliding_window": WINDOW, "query_pre_attn_scalar": 16}),
    Family(
        "gemma2-27b-scale",
        "Gemma2Config",
        {"num_hidden_layers": 3, "sliding_window": WINDOW, "query_pre_attn_scalar": 12},  # D / N, not H
    ),
    Family(
        "gemma3",
        "Gemma3TextConfig",
        {
            "num_hidden_layers": 7,
            "num_key_value_heads": 1,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 16,
            "rope_parameters": PLAIN_ROPE,
        },
    ),
    Family(
        "gemma3-linear",
        "Gemma3TextConfig",
        {
            "num_hidden_layers": 7,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 16,
            "rope_parameters": LINEAR_ROPE,
        },
    ),
    Family(
        "gemma3-27b-scale",
        "Gemma3TextConfig",
        {
            "num_hidden_layers": 7,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 12,
            "rope_parameters": LINEAR_ROPE,
        },
    ),
    Family("llama2", "LlamaConfig", {"num_hidden_layers": 2, "num_key_value_heads": 4, "rms_norm_eps": 1e-5}),
    Family("mistral", "MistralConfig", {"num_hidden_layers": 2, "sliding_window": WINDOW, "rms_norm_eps": 1e-5}),
    Family("mistral-no-window", "MistralConfig", {"num_hidden_layers": 2, "sliding_window": None}),
]


def reference_model(family: Family, seed: int = 11) -> Any:
    """transformers' float32 model of the family with seeded random weights of a realistic spread."""
    config = getattr(transformers, family.config_class)(**(SMALL | family.settings))
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim == 1:
                tensor.copy_(0.3 * noise + (0.0 if "Gemma" in family.config_class else 1.0))
            else:
                spread = 1.0 if "embed" in name else 1.2
                tensor.copy_(spread * noise / tensor.shape[1] ** 0.5)
    return model


def write_reference(family: Family, folder: Path) -> Any:
    """The family's reference model, also written to `folder` by transformers."""
    model = reference_model(family)
    model.save_pretrained(folder)
    return model


def token_rows(lengths: list[int], seed: int = 5) -> list[list[int]]:
    """Seeded random sequences of the given lengths."""
    generator = np.random.default_rng(seed)
    return [[2, *generator.integers(3, VOCAB_SIZE, length - 1).tolist()] for length in lengths]


def reference_logits(model: Any, token_ids: list[int]) -> np.ndarray:
    """float32 (T, V) of transformers' full forward pass."""
    with torch.no_grad():
        logits: np.ndarray = model(torch.tensor([token_ids])).logits[0].float().numpy()
    return logits
