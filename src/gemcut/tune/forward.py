"""The decoder's forward pass for training: pure functions of what is trained and what is frozen, block by block."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from keras import ops

from gemcut.config import DecoderConfig
from gemcut.model.block import begin_block, finish_block
from gemcut.model.decoder import embed
from gemcut.model.leaf_ops import LeafOps
from gemcut.model.rope import rope_tables
from gemcut.tune.segment_attention import segment_attention

Tensor = Any
Tree = dict[str, Any]
Recompute = Callable[[Callable[..., Tensor]], Callable[..., Tensor]]


class Method(Protocol):
    """What is trained of a decoder, and how the weights follow from it."""

    @property
    def outer_names(self) -> tuple[str, ...]:
        """Names of embedding and output head where these are trained.

        Their gradients are not left to automatic differentiation: it would make one of the size of the vocabulary for
        each use.
        """

    def initial(self) -> Iterator[tuple[str, np.ndarray]]:
        """Name and float32 values of each tensor that is trained, as it is before the first step."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what `initial` gives, without making it."""

    def of_layer(self, trained: Mapping[str, Tensor], layer_index: int) -> dict[str, Tensor]:
        """The part of `trained` that a layer's weights follow from."""

    def layer_weights(self, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A layer's tensors as `gemcut.model.block` takes them, of its frozen and its trained part."""

    def outer_weight(self, name: str, frozen: Tree, trained: Mapping[str, Tensor]) -> Tensor:
        """One of the tensors around the layers, as `Decoder.tree()` names them: embedding, final_norm or head."""


@dataclasses.dataclass(frozen=True)
class Forward:
    """The forward pass of one decoder under one method.

    Attributes:
        config: The decoder's configuration.
        method: What is trained.
        leaf: The backend's leaf operations.
        dtype: Compute type.
        recompute: Wraps a block so that backpropagation computes it again instead of keeping what is inside.
    """

    config: DecoderConfig
    method: Method
    leaf: LeafOps
    dtype: str
    recompute: Recompute

    def embedded(self, frozen: Tree, trained: Mapping[str, Tensor], token_ids: Tensor) -> Tensor:
        """The residual stream's start (B, T, D) of ids (B, T)."""
        tree = {"embedding": self.method.outer_weight("embedding", frozen, trained)}
        return embed(tree, token_ids, self.config, self.dtype)

    def embedding_gradient(self, d_x: Tensor) -> Tensor:
        """float32 (B, T, D) gradients by the rows of the embedding, of those by `embedded`."""
        wide = ops.cast(d_x, "float32")
        return wide * self.config.hidden_size**0.5 if self.config.scale_embeddings else wide

    def hidden(
        self,
        frozen: Tree,
        trained: Mapping[str, Tensor],
        x: Tensor,
        positions: Tensor,
        segments: Tensor,
        rows: Tensor,
    ) -> Tensor:
        """The decoder's output at some positions.

        Args:
            frozen: Tensors that are not trained, as `Decoder.tree()` has them; "layers" may hold empty mappings.
            trained: What is trained; those of `outer_names` may be missing.
            x: (B, T, D), from `embedded`.
            positions, segments: int32 (B, T), as in `packing.Row`.
            rows: int32 (P,), indices into the flattened positions.

        Returns:
            (P, D) after the final norm, in the compute type.
        """
        config = self.config
        kinds = set(config.layer_types)
        tables = {
            kind: rope_tables(positions, config.head_dim, rope)
            for kind, rope in config.rope_parameters
            if kind in kinds
        }
        for index, kind in enumerate(config.layer_types):
            weights = frozen["layers"][index], self.method.of_layer(trained, index)
            x = self._blocks[config.window(index)](*weights, x, *tables[kind], positions, segments)
        chosen = ops.take(ops.reshape(x, (-1, config.hidden_size)), rows, axis=0)  # (P, D)
        gain = self.method.outer_weight("final_norm", frozen, trained)
        return ops.cast(self.leaf.rms_norm(chosen, gain, config.rms_norm_eps, config.norm_unit_offset), self.dtype)

    @functools.cached_property
    def _blocks(self) -> dict[int | None, Callable[..., Tensor]]:
        """A block for each window that there is: the same function for all its layers, so that it is compiled once."""
        windows = {self.config.window(index) for index in range(self.config.num_hidden_layers)}
        return {window: self.recompute(self._block(window)) for window in windows}

    def _block(self, window: int | None) -> Callable[..., Tensor]:
        """A block as a function of tensors only."""
        config, leaf = self.config, self.leaf

        def block(
            frozen: dict[str, Tensor],
            trained: dict[str, Tensor],
            x: Tensor,
            cos: Tensor,
            sin: Tensor,
            positions: Tensor,
            segments: Tensor,
        ) -> Tensor:
            weights = self.method.layer_weights(frozen, trained)
            queries, keys, values = begin_block(weights, x, cos, sin, config, leaf)
            attended = segment_attention(queries, keys, values, positions, segments, window, config, leaf)
            return finish_block(weights, x, attended, config, leaf)

        return block
