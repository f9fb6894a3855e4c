"""Small checkpoints in every format, written by the formats' own libraries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from gguf.quants import quantize

from gemcut.config import FULL_ATTENTION, SLIDING_ATTENTION, DecoderConfig, RopeParameters, config_to_gguf, config_to_hf
from gemcut.config.parameters import parameter_shapes

Weights = dict[str, np.ndarray]
_SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 128,
    "query_pre_attn_scalar": 32,
}
_FULL = {
    "layer_types": (FULL_ATTENTION,) * 2,
    "sliding_window": None,
    "rope_parameters": ((FULL_ATTENTION, RopeParameters()),),
}
_LLAMA = {"hidden_activation": "silu", "scale_embeddings": False, "norm_unit_offset": False}
_LLAMA |= {"tie_word_embeddings": False, "bos_token_id": 1, "eos_token_ids": (2,), "pad_token_id": None}
_SLIDING = {"layer_types": (SLIDING_ATTENTION,) * 2, "sliding_window": 8}
CONFIGS = {
    "gemma": DecoderConfig(**_SIZES, **_FULL),
    "gemma2": DecoderConfig(
        **_SIZES,
        layer_types=(SLIDING_ATTENTION, FULL_ATTENTION),
        sliding_window=8,
        rope_parameters=((SLIDING_ATTENTION, RopeParameters()), (FULL_ATTENTION, RopeParameters())),
        post_norms=True,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
        model_type="gemma2",
    ),
    "gemma3": DecoderConfig(
        **_SIZES,
        **_SLIDING,
        rope_parameters=((SLIDING_ATTENTION, RopeParameters()),),
        post_norms=True,
        qk_norm=True,
        model_type="gemma3_text",
    ),
    "llama": DecoderConfig(**_SIZES, **_FULL, **_LLAMA, model_type="llama"),
    "mistral": DecoderConfig(
        **_SIZES,
        **_SLIDING,
        **_LLAMA,
        rope_parameters=((SLIDING_ATTENTION, RopeParameters()),),
        model_type="mistral",
    ),
}


@pytest.fixture
def configs() -> dict[str, DecoderConfig]:
    return CONFIGS


@pytest.fixture
def random_weights() -> Callable[[DecoderConfig], Weights]:
    """float32 tensors under our names, of numbers that bfloat16 holds exactly, also after 1 is added and taken off."""

    def make(config: DecoderConfig, seed: int = 0) -> Weights:
        rng = np.random.default_rng(seed)
        shapes = parameter_shapes(config)
        return {name: (rng.integers(-31, 32, shape) / 32).astype(np.float32) for name, shape in shapes.items()}

    return make


@pytest.fixture
def write_hf(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder as Hugging Face has it: config.json, and safetensors in one file or two."""

    def write(config: DecoderConfig, weights: Weights, dtype: str = "float32", num_shards: int = 1) -> Path:
        folder = tmp_path / f"hf-{dtype}-{num_shards}"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config_to_hf(config)))
        target = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}[dtype]
        stored = {name: values.astype(target) for name, values in weights.items()}
        if num_shards == 1:
            safetensors.numpy.save_file(stored, folder / "model.safetensors", {"format": "pt"})
            return folder
        files = [f"model-{number + 1:05d}-of-{num_shards:05d}.safetensors" for number in range(num_shards)]
        weight_map = {name: files[index % num_shards] for index, name in enumerate(stored)}
        for file in files:
            part = {name: values for name, values in stored.items() if weight_map[name] == file}
            safetensors.numpy.save_file(part, folder / file)
        index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        return folder

    return write


def _gguf_name(name: str, config: DecoderConfig) -> str:
    """llama.cpp's name of one of ours, from the gguf package's own table."""
    architecture = {"gemma3_text": "GEMMA3", "gemma2": "GEMMA2", "gemma": "GEMMA"}.get(config.model_type, "LLAMA")
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture], config.num_hidden_layers)
    found = table.get_name(name, try_suffixes=(".weight",))
    assert found is not None, name
    return found


def _as_gguf(name: str, values: np.ndarray, config: DecoderConfig) -> np.ndarray:
    """What llama.cpp's converter makes of a tensor: 1 + w in Gemma's norms, Llama's heads in adjacent pairs."""
    if config.norm_unit_offset:
        return values + 1 if "norm" in name else values
    if name.endswith(("q_proj.weight", "k_proj.weight")):
        half = config.head_dim // 2
        return values.reshape(-1, 2, half, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
    return values


@pytest.fixture
def write_gguf(tmp_path: Path) -> Callable[..., Path]:
    """Write a GGUF file, matrices in a type that the gguf package can make; norms in F32."""

    def write(config: DecoderConfig, weights: Weights, stored_type: str = "F32", *, per_file: int = 0) -> Path:
        path = tmp_path / f"model-{stored_type}.gguf"
        metadata = config_to_gguf(config)
        architecture = metadata.pop("general.architecture")
        writer = gguf.GGUFWriter(path, architecture, split_max_tensors=per_file)
        for key, value in metadata.items():
            add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}.get(type(value))
            add(key, value) if add else writer.add_array(key, value)
        writer.add_array("tokenizer.ggml.tokens", [f"token {number}" for number in range(config.vocab_size)])
        writer.add_uint32("tokenizer.ggml.bos_token_id", config.bos_token_id)
        writer.add_uint32("tokenizer.ggml.eos_token_id", config.eos_token_ids[0])
        if config.pad_token_id is not None:
            writer.add_uint32("tokenizer.ggml.padding_token_id", config.pad_token_id)
        for name, values in weights.items():
            kind = gguf.GGMLQuantizationType[stored_type if values.ndim == 2 else "F32"]
            stored = quantize(_as_gguf(name, values, config), kind)
            writer.add_tensor(_gguf_name(name, config), stored, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return sorted(tmp_path.glob(f"model-{stored_type}*.gguf"))[0]

    return write
