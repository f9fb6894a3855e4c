"""What tests of several folders share."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TINY_TOKENIZER = Path(__file__).parent / "text" / "data" / "tiny-gemma.model"


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """The folder of large test material beside the checkout."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared beside the checkout")
    return folder


@pytest.fixture(scope="session")
def starter_path() -> Path:
    """The real starter model's GGUF file, in the user's cache."""
    from gemcut import hub
    from gemcut.errors import NotFoundError

    try:
        hub.find_starter_parts()
    except NotFoundError as error:
        pytest.skip(f"the starter extra is not installed: {error}")
    return hub.starter_path()


@pytest.fixture(scope="session")
def engine() -> str:
    """The engine of this test process: GEMCUT_TEST_ENGINE (native), else KERAS_BACKEND, else jax.

    `make test` runs the tests that are marked `backend` on each.
    """
    return os.environ.get("GEMCUT_TEST_ENGINE") or os.environ.setdefault("KERAS_BACKEND", "jax")


@pytest.fixture(scope="session")
def write_tiny_model() -> Callable[..., Path]:
    """Write a folder as Hugging Face has it: a small random Gemma 3 with the tiny tokenizer (700 pieces).

    Keyword arguments change the configuration.
    """
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

    def write(folder: Path, **changes: Any) -> Path:
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

    return write
