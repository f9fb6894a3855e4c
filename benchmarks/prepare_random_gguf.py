"""Write a GGUF file of a published size with random weights, so that its speed can be measured without a download.

    python benchmarks/prepare_random_gguf.py q4_0|q4_k_m FILE.gguf [--model gemma-2b]

q4_0: every matrix in Q4_0. q4_k_m: the mix of types that llama.cpp gives such a model. The vocabulary is the starter's.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from gemcut.config import PUBLISHED, DecoderConfig, config_to_gguf
from gemcut.hub import starter_path

WEIGHT_SIGMA = 0.02  # of a dequantised weight, about what trained matrices have
FILE_TYPES = {"q4_0": 2, "q4_k_m": 15}  # general.file_type
NORM_GAIN = 1.0  # as stored: Gemma's 1 + w with w = 0


def main() -> None:
    """Parse the command line and write the file, whole or not at all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("mix", choices=FILE_TYPES)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default="gemma-2b", help="a published size of the gemma architecture")
    arguments = parser.parse_args()
    partial = arguments.file.with_suffix(".partial")
    write_random_gguf(PUBLISHED[arguments.model].config, arguments.mix, partial)
    os.replace(partial, arguments.file)


def write_random_gguf(config: DecoderConfig, mix: str, path: Path) -> None:
    """The file, tensor by tensor: at most one is in memory.

    Args:
        config: A decoder without norms after its blocks' parts and with its output tied to its embeddings.
        mix: A key of FILE_TYPES.
        path: Written over.
    """
    keys = config_to_gguf(config)
    architecture = keys.pop("general.architecture")
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_file_type(FILE_TYPES[mix])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in keys.items():
        _add_value(writer, key, value)
    _add_vocabulary(writer, config.vocab_size)
    tensors = list(_tensors(config, mix))
    for name, shape, kind in tensors:
        byte_shape = gguf.quant_shape_to_byte_shape(shape, kind) if kind != Type.F32 else shape
        dtype = np.dtype(np.float32) if kind == Type.F32 else np.dtype(np.uint8)
        num_bytes = int(np.prod(byte_shape)) * dtype.itemsize
        writer.add_tensor_info(name, byte_shape, dtype, num_bytes, kind if kind != Type.F32 else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    generator = np.random.default_rng(0)
    for _, shape, kind in tensors:
        writer.write_tensor_data(random_tensor(generator, shape, kind))
    writer.close()


def random_tensor(generator: np.random.Generator, shape: tuple[int, ...], kind: Type) -> np.ndarray:
    """Blocks of a type with random digits and sensible scales; norms are all NORM_GAIN.

    Args:
        generator: Where the digits come from.
        shape: Of the weights.
        kind: F32, Q4_0, Q4_K or Q6_K.

    Returns:
        float32 `shape`, or uint8 (rows, bytes of a row). Source of the blocks' fields: gguf.quants.
    """
    if kind == Type.F32:
        return np.full(shape, NORM_GAIN, np.float32)
    block_values, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = np.frombuffer(generator.bytes(int(np.prod(shape)) // block_values * block_bytes), np.uint8)
    blocks = blocks.reshape(-1, block_bytes).copy()
    if kind == Type.Q4_0:  # d, 16 bytes: d * (0..15 - 8), sigma of the digits 4.6
        _set_float16(blocks, 0, WEIGHT_SIGMA / 4.6)
    elif kind == Type.Q4_K:  # d, dmin, 12 bytes of 6-bit scales and mins, digits: d * scale * 0..15 - dmin * min
        _set_float16(blocks, 0, WEIGHT_SIGMA / 258)  # 258: sigma of scale * digit - 7.5 * min, whose mean is 0
        _set_float16(blocks, 2, 7.5 * WEIGHT_SIGMA / 258)
    else:  # Q6_K: 192 bytes of digits, 16 int8 scales, d: d * scale * (0..63 - 32), sigma of the digits 18.5
        signs = np.where(blocks[:, 192:208] & 128, -1, 1).astype(np.int8)
        blocks[:, 192:208] = (signs * (16 + (blocks[:, 192:208] & 15)).astype(np.int8)).view(np.uint8)
        _set_float16(blocks, 208, WEIGHT_SIGMA / (18.5 * 24))
    return blocks.reshape(*shape[:-1], -1)


def _set_float16(blocks: np.ndarray, offset: int, value: float) -> None:
    blocks[:, offset : offset + 2] = np.frombuffer(np.float16(value).tobytes(), np.uint8)


def _tensors(config: DecoderConfig, mix: str) -> Iterator[tuple[str, tuple[int, ...], Type]]:
    """Name, shape and type of every tensor, in the order of llama.cpp's converter."""
    width, ffn = config.hidden_size, config.intermediate_size
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    plain = Type.Q4_0 if mix == "q4_0" else Type.Q4_K
    yield "token_embd.weight", (config.vocab_size, width), Type.Q4_0 if mix == "q4_0" else Type.Q6_K
    for layer in range(config.num_hidden_layers):
        wide = Type.Q6_K if mix == "q4_k_m" and _more_bits(layer, config.num_hidden_layers) else plain
        rows = {
            "attn_norm": ((width,), Type.F32),
            "attn_q": ((queries, width), plain),
            "attn_k": ((keys, width), plain),
            "attn_v": ((keys, width), wide),
            "attn_output": ((width, queries), plain),
            "ffn_norm": ((width,), Type.F32),
            "ffn_gate": ((ffn, width), plain),
            "ffn_up": ((ffn, width), plain),
            "ffn_down": ((width, ffn), wide),
        }
        for name, (shape, kind) in rows.items():
            yield f"blk.{layer}.{name}.weight", shape, kind
    yield "output_norm.weight", (width,), Type.F32


def _more_bits(layer: int, num_layers: int) -> bool:
    """Whether Q4_K_M keeps a layer's values and down projection in Q6_K.

    Source: llama.cpp, src/llama-quant.cpp, use_more_bits: the first and last eighth, and every third between.
    """
    eighth = num_layers // 8
    return layer < eighth or layer >= 7 * num_layers // 8 or (layer - eighth) % 3 == 2


def _add_value(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_string(key, value)


def _add_vocabulary(writer: gguf.GGUFWriter, vocab_size: int) -> None:
    """The starter's first pieces: the tables have the size and cost of a real model's."""
    fields = gguf.GGUFReader(starter_path()).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens[:vocab_size])
    writer.add_token_scores(fields["tokenizer.ggml.scores"].contents()[:vocab_size])
    writer.add_token_types(fields["tokenizer.ggml.token_type"].contents()[:vocab_size])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)


if __name__ == "__main__":
    main()
