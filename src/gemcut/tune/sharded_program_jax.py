"""A training step as the program of one device among several, on JAX: its rows, its parts of the tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from gemcut.model.leaf_ops_jax import BackendOps
from gemcut.tune.collectives_jax import VocabularyShare, gathered, joined, spread
from gemcut.tune.forward import Forward, Method, Tree
from gemcut.tune.layout import DATA, TENSOR, Placement
from gemcut.tune.losses import ROW_CHUNK
from gemcut.tune.step_program import StepProgram, Tensors

Tensor = Any

_SPLIT_BY_COLUMNS = ("self_attn.o_proj", "mlp.down_proj")


class SplitOps(BackendOps):
    """Leaf operations where each device holds a part of each matrix of the layers."""

    def before_matrix(self, matrix: str, x: Tensor) -> Tensor:
        return x if matrix in _SPLIT_BY_COLUMNS else spread(x, TENSOR)

    def after_matrix(self, matrix: str, product: Tensor) -> Tensor:
        return joined(product, TENSOR) if matrix in _SPLIT_BY_COLUMNS else product


@dataclasses.dataclass(frozen=True)
class PlacedMethod:
    """A method on one device: tensors of a layer come together, or are cut to size, just before they are used.

    Attributes:
        method: Of `Placement.own_config`.
        whole: The same of the whole decoder.
        placement: Where tensors lie.
        layer_shapes: Of all of each layer's tensors, stacked or trained, by their name inside the layer.
        dtype: Compute type, in which split tensors are sent.
        outer_names: Those of the method.
    """

    method: Method
    whole: Method
    placement: Placement
    layer_shapes: Mapping[str, tuple[int, ...]]
    dtype: str
    outer_names: tuple[str, ...]

    def initial(self) -> Iterator[tuple[str, np.ndarray]]:
        return self.whole.initial()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self.whole.shapes()

    def of_layer(self, trained: Mapping[str, Tensor], layer_index: int) -> dict[str, Tensor]:
        return self.method.of_layer(trained, layer_index)

    def layer_weights(self, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
        here, there = ({name: self._used(name, tensor) for name, tensor in each.items()} for each in (frozen, trained))
        return self.method.layer_weights(here, there)

    def outer_weight(self, name: str, frozen: Tree, trained: Mapping[str, Tensor]) -> Tensor:
        return self.method.outer_weight(name, frozen, trained)

    def _used(self, name: str, tensor: Tensor) -> Tensor:
        placement = self.placement
        if placement.layout.name == "fsdp":
            axis = placement.axis(name, self.layer_shapes[name])
            return tensor if axis is None else gathered(tensor, DATA, axis, self.dtype)
        if not placement.is_used_in_part(name):
            return tensor
        tensor = spread(tensor, TENSOR)
        if not placement.is_key_tensor(name):
            return tensor
        config = placement.config
        head = lax.axis_index(TENSOR) * config.num_key_value_heads // placement.num_parts
        return lax.dynamic_slice_in_dim(tensor, head * config.head_dim, config.head_dim)


@dataclasses.dataclass(frozen=True)
class ShardedForward(Forward):
    """The forward pass on one device."""

    placement: Placement

    @property
    def share(self) -> VocabularyShare | None:
        """This device's rows of embedding and head; None where it has all."""
        placement = self.placement
        if not placement.splits_vocabulary:
            return None
        return VocabularyShare(placement.split_over, placement.config.vocab_size // placement.num_parts)

    @property
    def brings_rows_together(self) -> bool:
        """Whether devices that share the vocabulary have different rows."""
        return self.placement.splits_vocabulary and self.placement.split_over == DATA

    def embedded(self, frozen: Tree, trained: Mapping[str, Tensor], token_ids: Tensor) -> Tensor:
        if self.share is None:
            return super().embedded(frozen, trained, token_ids)
        if self.brings_rows_together:
            token_ids = lax.all_gather(token_ids, DATA, tiled=True)
        rows, is_own = self.share.own(token_ids)
        x = super().embedded(frozen, trained, rows)
        x = jnp.where(is_own[..., None], x, jnp.zeros((), x.dtype))  # one device has each row, the others add zeros
        if self.brings_rows_together:
            return lax.psum_scatter(x, DATA, tiled=True)
        return self.share.total(x)


@dataclasses.dataclass(frozen=True)
class ShardedProgram(StepProgram):
    """`StepProgram` on one device of several; batches hold its rows, `num_chunks` is (1,).

    Attributes:
        finished: What is trained whose gradients are added up over all rows where they are made.
    """

    forward: ShardedForward
    finished: frozenset[str]

    def gradients(
        self, trained: Tensors, sums: Tensors, frozen: Tree, batch: Tensors, scale: Tensor
    ) -> tuple[Tensors, Tensor]:
        found, loss = super().gradients(trained, {}, frozen, batch, scale)
        partial = {name: value for name, value in found.items() if name not in self.finished}
        found |= lax.psum(partial, DATA)
        return self.backend.added(sums, found), loss

    def _head_loss(
        self, hidden: Tensor, frozen: Tree, trained: Mapping[str, Tensor], batch: Tensors, **settings: Any
    ) -> tuple[Tensor, ...]:
        chunks, share = batch["num_chunks"], self.forward.share
        if not self.forward.brings_rows_together:
            own = {"ids": batch["ids"], "num_chunks": chunks[0]}
            loss, *gradients = super()._head_loss(hidden, frozen, trained, own, share=share, **settings)
            if share is not None:
                gradients[0] = share.total(gradients[0])
            return lax.psum(loss, DATA), *gradients
        all_chunks = lax.all_gather(chunks, DATA, tiled=True)  # (devices,)
        order = _filled_first(all_chunks, hidden.shape[0] // ROW_CHUNK)
        together = {"ids": _all_rows(batch["ids"])[order].reshape(-1), "num_chunks": all_chunks.sum()}
        rows = _all_rows(hidden)[order].reshape(-1, hidden.shape[-1])
        loss, d_rows, *d_head = super()._head_loss(rows, frozen, trained, together, share=share, **settings)
        if settings.get("with_gradient", True):
            d_chunks = d_rows.reshape(-1, ROW_CHUNK, hidden.shape[-1])
            d_rows = jnp.zeros_like(d_chunks).at[order].set(d_chunks).reshape(-1, hidden.shape[-1])
            d_rows = lax.psum_scatter(d_rows, DATA, tiled=True)
        return loss, d_rows, *d_head

    def _outer_gradients(self, d_head: Tensor, d_x: Tensor, token_ids: Tensor) -> Tensors:
        share = self.forward.share
        if share is None:
            return super()._outer_gradients(d_head, d_x, token_ids)
        if self.forward.brings_rows_together:
            d_x, token_ids = (lax.all_gather(each, DATA, tiled=True) for each in (d_x, token_ids))
        rows, is_own = share.own(token_ids)
        return super()._outer_gradients(d_head, jnp.where(is_own[..., None], d_x, 0), rows)


def _all_rows(x: Tensor) -> Tensor:
    """(P, ...) of each device as (chunks of all devices, ROW_CHUNK, ...)."""
    return lax.all_gather(x.reshape(-1, ROW_CHUNK, *x.shape[1:]), DATA, tiled=True)


def _filled_first(num_chunks: Tensor, each: int) -> Tensor:
    """An order of all devices' chunks in which those that hold something come first.

    Args:
        num_chunks: int32 (devices,), how many of its first chunks each device has filled.
        each: Chunks of a device.
    """
    is_empty = jnp.arange(each)[None, :] >= num_chunks[:, None]
    return jnp.argsort(is_empty.reshape(-1), stable=True)
