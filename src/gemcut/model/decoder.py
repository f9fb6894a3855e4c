"""The decoder as a Keras model: it owns the variables; pure functions elsewhere do the arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from gemcut.config import DecoderConfig
from gemcut.config.parameters import EMBEDDING, FINAL_NORM, OUTPUT_HEAD, fused_layer_shapes, layer_shapes
from gemcut.interfaces import LowRankUpdate
from gemcut.model.adapter import stacked_update
from gemcut.model.attention import attention_mask
from gemcut.model.backend_ops import leaf_ops
from gemcut.model.block import begin_block, finish_block, residual_dtype
from gemcut.model.leaf_ops import LeafOps
from gemcut.model.rope import rope_tables

Tensor = Any
TensorSource = Callable[[tuple[str, ...], tuple[int, ...], str], Any]


def random_tensors(config: DecoderConfig, seed: int = 0) -> TensorSource:
    """A source of seeded random weights: normal with deviation 0.02, norm gains that leave the scale alone."""
    generator = np.random.default_rng(seed)

    def tensor(names: tuple[str, ...], shape: tuple[int, ...], dtype: str) -> Tensor:
        del names  # the shape tells a norm gain from a matrix
        if len(shape) == 1:
            return ops.full(shape, 0.0 if config.norm_unit_offset else 1.0, dtype=dtype)
        values = generator.standard_normal(shape, dtype=np.float32)
        values *= np.float32(0.02)
        return ops.convert_to_tensor(values, dtype=dtype)

    return tensor


class DecoderBlock(keras.layers.Layer):
    """One layer's variables and its cacheless forward pass."""

    def __init__(
        self,
        config: DecoderConfig,
        layer_index: int,
        source: TensorSource,
        dtype: str,
        updates: Mapping[str, LowRankUpdate],
    ) -> None:
        # Keras would cast the residual stream and the rotation's angles to `dtype`; both may be wider.
        super().__init__(name=f"layers.{layer_index}", dtype=dtype, autocast=False)
        self.config = config
        self.layer_index = layer_index
        single = layer_shapes(config)
        self.tensors = {}
        for name, (shape, parts) in fused_layer_shapes(config).items():
            sources = tuple(f"model.layers.{layer_index}.{part}" for part in parts)
            self.tensors[name] = _variable(self, name, sources, shape, source)
            if factors := stacked_update(sources, tuple(single[part][0] for part in parts), updates):
                matrix = name.removesuffix(".weight")
                for side, values in zip(("lora_a", "lora_b"), factors, strict=True):
                    self.tensors[f"{matrix}.{side}"] = _factor(self, f"{matrix}.{side}", values)
        self.built = True

    def values(self) -> dict[str, Tensor]:
        """The layer's tensors by their name inside the layer."""
        return {name: variable.value for name, variable in self.tensors.items()}

    def call(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """The block without a cache: (B, T, D) to (B, T, D); `mask` is bool (B, T, T)."""
        leaf, config, weights = leaf_ops(), self.config, self.values()
        queries, keys, values = begin_block(weights, x, cos, sin, config, leaf)
        attended = leaf.attention(queries, keys, values, mask, config.query_scale, config.attn_logit_softcapping)
        return finish_block(weights, x, attended, config, leaf)


class Decoder(keras.Model):
    """The whole decoder.

    Args:
        config: What it has.
        source: Called as source(names, shape, dtype) once for each variable; returns its value, the tensors
            of those names (see `gemcut.config.parameters`) stacked by rows. None draws random weights.
        dtype: "float32", "bfloat16" or "float16": the type of weights and arithmetic.
        updates: What an adapter adds to matrices of the layers, by the names of `gemcut.config.parameters`.
    """

    def __init__(
        self,
        config: DecoderConfig,
        source: TensorSource | None = None,
        dtype: str = "float32",
        updates: Mapping[str, LowRankUpdate] | None = None,
    ) -> None:
        super().__init__(name="decoder", dtype=dtype)
        source = source or random_tensors(config)
        self.config = config
        width, rows = config.hidden_size, config.vocab_size
        self.embedding = _variable(self, "embed_tokens.weight", (EMBEDDING,), (rows, width), source)
        self.blocks = [
            DecoderBlock(config, index, source, dtype, updates or {}) for index in range(config.num_hidden_layers)
        ]
        self.final_norm = _variable(self, "norm.weight", (FINAL_NORM,), (width,), source)
        self.output_head = (
            None if config.tie_word_embeddings else _variable(self, OUTPUT_HEAD, (OUTPUT_HEAD,), (rows, width), source)
        )
        self.built = True

    def tree(self) -> dict[str, Any]:
        """All tensors as a tree that pure functions take: embedding, layers, final_norm, head."""
        head = self.embedding if self.output_head is None else self.output_head
        return {
            "embedding": self.embedding.value,
            "layers": [block.values() for block in self.blocks],
            "final_norm": self.final_norm.value,
            "head": head.value,
        }

    def call(self, token_ids: Tensor) -> Tensor:
        """Next-token logits at every position, without a cache.

        Args:
            token_ids: int32 (B, T), whole sequences from position 0.

        Returns:
            float32 (B, T, V).
        """
        config, leaf, tree = self.config, leaf_ops(), self.tree()
        batch, length = token_ids.shape
        positions = ops.broadcast_to(ops.arange(length, dtype="int32")[None, :], (batch, length))
        x = embed(tree, token_ids, config, self.compute_dtype)
        tables, masks = {}, {}
        for layer_type, rope in config.rope_parameters:
            tables[layer_type] = rope_tables(positions, config.head_dim, rope)
            window = config.sliding_window if layer_type == "sliding_attention" else None
            masks[layer_type] = attention_mask(positions, positions, window)
        for block, layer_type in zip(self.blocks, config.layer_types, strict=True):
            x = block(x, *tables[layer_type], masks[layer_type])
        hidden = normalized(tree, x, config, leaf)
        logits = head_logits(tree, ops.reshape(hidden, (batch * length, config.hidden_size)), config, leaf)
        return ops.reshape(logits, (batch, length, config.vocab_size))


def embed(tree: dict[str, Any], token_ids: Tensor, config: DecoderConfig, dtype: str) -> Tensor:
    """The residual stream's start: embedding rows, scaled; (B, T) ids to (B, T, D)."""
    x = ops.take(tree["embedding"], token_ids, axis=0)
    if config.scale_embeddings:
        x = x * ops.cast(config.hidden_size**0.5, x.dtype)  # the factor is rounded to the compute type first
    return ops.cast(x, residual_dtype(dtype))


def normalized(tree: dict[str, Any], x: Tensor, config: DecoderConfig, leaf: LeafOps) -> Tensor:
    """The decoder's output (..., D) after the final norm, in the weights' type."""
    hidden = leaf.rms_norm(x, tree["final_norm"], config.rms_norm_eps, config.norm_unit_offset)
    return ops.cast(hidden, tree["head"].dtype)


def head_logits(tree: dict[str, Any], hidden: Tensor, config: DecoderConfig, leaf: LeafOps) -> Tensor:
    """float32 (R, V) logits of hidden states (R, D), soft-capped where the model caps them."""
    logits = leaf.head(hidden, tree["head"])
    cap = config.final_logit_softcapping
    return logits if cap is None else cap * ops.tanh(logits / cap)


def _factor(layer: keras.layers.Layer, name: str, values: np.ndarray) -> keras.Variable:
    """A variable for one factor of an adapter's update."""

    def initializer(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        return ops.convert_to_tensor(values, dtype=dtype)

    return layer.add_weight(name=name, shape=values.shape, initializer=initializer, dtype=layer.variable_dtype)


def _variable(
    layer: keras.layers.Layer, name: str, sources: tuple[str, ...], shape: tuple[int, ...], source: TensorSource
) -> keras.Variable:
    def initializer(shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        return source(sources, tuple(shape), str(keras.backend.standardize_dtype(dtype)))

    return layer.add_weight(name=name, shape=shape, initializer=initializer, dtype=layer.variable_dtype)
