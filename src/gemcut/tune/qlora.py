"""QLoRA: LoRA beside weights that stay in 4 bits; a layer's are widened when it is computed, and forgotten again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops

from gemcut.checkpoint import Checkpoint
from gemcut.checkpoint.names import Transform
from gemcut.config import DecoderConfig
from gemcut.config.parameters import EMBEDDING, FINAL_NORM, OUTPUT_HEAD, fused_layer_shapes
from gemcut.errors import UsageError
from gemcut.quantize import quantize, type_named
from gemcut.tune.lora import Lora

Tensor = Any

STORED_TYPE = "Q4_0"
BLOCK_VALUES = 32
CODES, SCALES = ".codes", ".scales"


class QLora(Lora):
    """An adapter beside matrices in blocks of 4-bit codes with one scale; arguments as of `Lora`.

    Embedding and output head stay in the compute type: rows are taken of the one, and the loss reads the other in
    blocks anyway.

    Source: blocks as ggml's Q4_0 has them; the method is that of arXiv:2305.14314, with these in place of NF4.
    """

    def layer_weights(self, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As `Lora.layer_weights`, of what `packed_tree` made."""
        weights = {name: value for name, value in frozen.items() if not name.endswith((CODES, SCALES))}
        for name in frozen:
            if name.endswith(CODES):
                matrix = name.removesuffix(CODES)
                weights[matrix] = widened(frozen[name], frozen[matrix + SCALES], self.dtype)
        return super().layer_weights(weights, trained)


def widened(codes: Tensor, scales: Tensor, dtype: str) -> Tensor:
    """A matrix of 4-bit codes as numbers.

    Args:
        codes: uint8 (out, in / 32, 16): the low halves are the first 16 values of a block, the high ones the others.
        scales: float16 (out, in / 32).
        dtype: Of the result.

    Returns:
        (out, in): (code - 8) * scale.
    """
    rows, num_blocks, half = codes.shape
    low, high = ops.bitwise_and(codes, 15), ops.bitwise_right_shift(codes, 4)
    values = ops.cast(ops.concatenate([low, high], axis=2), "float32") - 8.0
    values = values * ops.cast(scales, "float32")[:, :, None]
    return ops.cast(ops.reshape(values, (rows, num_blocks * 2 * half)), dtype)


def packed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of a float32 matrix (out, in), as `widened` takes them."""
    rows, columns = values.shape
    blocks = quantize(np.ascontiguousarray(values), type_named(STORED_TYPE))
    return _parted(blocks.reshape(rows, columns // BLOCK_VALUES, -1))


def packed_tree(checkpoint: Checkpoint, dtype: str, to_backend: Callable[[np.ndarray], Tensor]) -> dict[str, Any]:
    """The decoder's tensors as `Decoder.tree()` has them, each matrix of the layers as codes and scales.

    A matrix that the file has in Q4_0 already is taken over bit for bit; others are rounded once, from float32.

    Args:
        checkpoint: The base model; one matrix at a time is widened.
        dtype: Type of all that stays as it is.
        to_backend: Makes a tensor of an array.

    Raises:
        UsageError: a matrix has no whole blocks.
    """
    config = checkpoint.config
    _check_blocks(config)

    def read(name: str) -> Tensor:
        return to_backend(np.array(checkpoint.tensors[name].read(dtype)))

    layers = []
    for index in range(config.num_hidden_layers):
        layer = {}
        for name, (shape, parts) in fused_layer_shapes(config).items():
            prefix = f"model.layers.{index}."
            if len(shape) == 1:
                layer[name] = read(prefix + parts[0])
                continue
            pairs = [_blocks_of(checkpoint, prefix + part) for part in parts]
            layer[name + CODES] = to_backend(np.concatenate([codes for codes, _ in pairs]))
            layer[name + SCALES] = to_backend(np.concatenate([scales for _, scales in pairs]))
        layers.append(layer)
    embedding = read(EMBEDDING)
    head = embedding if config.tie_word_embeddings else read(OUTPUT_HEAD)
    return {"embedding": embedding, "layers": layers, "final_norm": read(FINAL_NORM), "head": head}


def _blocks_of(checkpoint: Checkpoint, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of a matrix: the file's, or those of its numbers."""
    tensor = checkpoint.tensors[name]
    if tensor.stored_type == STORED_TYPE and tensor.transform is Transform.NONE and tensor.update is None:
        return _parted(np.array(tensor.raw).reshape(tensor.shape[0], tensor.shape[1] // BLOCK_VALUES, -1))
    return packed(tensor.read("float32"))


def _parted(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (out, in / 32, 16) and scales (out, in / 32) of blocks (out, in / 32, 18)."""
    return np.ascontiguousarray(blocks[:, :, 2:]), np.ascontiguousarray(blocks[:, :, :2]).view(np.float16)[:, :, 0]


def _check_blocks(config: DecoderConfig) -> None:
    for name, (shape, _) in fused_layer_shapes(config).items():
        if len(shape) == 2 and shape[1] % BLOCK_VALUES:
            raise UsageError(
                f"method qlora: {name} has {shape[1]} columns, expected a multiple of {BLOCK_VALUES}. Use method lora."
            )
