"""What results.json says of a run besides its figures: model and machine."""

from __future__ import annotations

import platform
from typing import Any

from gemcut.evaluate.identity import ModelIdentity
from gemcut.generate.text_model import TextModel
from gemcut.machine import memory_bytes, processor_name, usable_cores

_CONFIG_KEYS = (
    "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "vocab_size", "max_position_embeddings",
)  # fmt: skip


def model_facts(model: TextModel, identity: ModelIdentity) -> dict[str, Any]:
    """Name, digests, and how it is computed."""
    config = model.config
    return {
        "name": model.name,
        **identity.as_dict(),
        "threads": model.num_threads,
        "context": model.context,
        "is_instruction_tuned": model.is_instruction_tuned,
        "config": {key: getattr(config, key) for key in _CONFIG_KEYS},
    }


def machine_facts() -> dict[str, Any]:
    """The processor's name, the cores that this process may use, memory and system; None for what is not known."""
    return {
        "processor": processor_name(),
        "cores": usable_cores(),
        "memory_bytes": memory_bytes(),
        "system": platform.platform(),
    }
