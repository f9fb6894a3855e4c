"""What devices exchange in a training step on JAX, each with the gradient that belongs to it.

A step is one program for each device, in which only these functions reach others; so what a gradient means on one
device is said here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Tensor = Any


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def spread(x: Tensor, axis: str) -> Tensor:
    """What is the same on all devices, on its way into what each computes a part of: gradients are added up."""
    del axis
    return x


def _spread_forward(x: Tensor, axis: str) -> tuple[Tensor, None]:
    return spread(x, axis), None


def _spread_backward(axis: str, _: None, gradient: Tensor) -> tuple[Tensor]:
    return (lax.psum(gradient, axis),)


spread.defvjp(_spread_forward, _spread_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def joined(x: Tensor, axis: str) -> Tensor:
    """The sum of what each device computed a part of; the gradient is the same on all, and that of each part."""
    return lax.psum(x, axis)


def _joined_forward(x: Tensor, axis: str) -> tuple[Tensor, None]:
    return joined(x, axis), None


def _joined_backward(axis: str, _: None, gradient: Tensor) -> tuple[Tensor]:
    del axis
    return (gradient,)


joined.defvjp(_joined_forward, _joined_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def gathered(x: Tensor, axis: str, dimension: int, dtype: str) -> Tensor:
    """All parts of a tensor side by side, in a type; gradients are added up in float32, each device's part to it.

    Args:
        x: This device's part.
        axis: The devices that hold the others.
        dimension: Along which they are split.
        dtype: Of what is sent, and of the result.
    """
    return lax.all_gather(x.astype(dtype), axis, axis=dimension, tiled=True)


def _gathered_forward(x: Tensor, axis: str, dimension: int, dtype: str) -> tuple[Tensor, Tensor]:
    return gathered(x, axis, dimension, dtype), jnp.zeros((0,), x.dtype)


def _gathered_backward(axis: str, dimension: int, dtype: str, like: Tensor, gradient: Tensor) -> tuple[Tensor]:
    del dtype
    wide = gradient.astype(jnp.float32)
    return (lax.psum_scatter(wide, axis, scatter_dimension=dimension, tiled=True).astype(like.dtype),)


gathered.defvjp(_gathered_forward, _gathered_backward)


@dataclasses.dataclass(frozen=True)
class VocabularyShare:
    """The rows of embedding and head that each device has; see `losses.VocabularyShare`.

    Attributes:
        axis: The devices that share the vocabulary.
        num_rows: Rows of each.
    """

    axis: str
    num_rows: int

    @property
    def offset(self) -> Tensor:
        """The first row of this device."""
        return lax.axis_index(self.axis) * self.num_rows

    def total(self, x: Tensor) -> Tensor:
        return lax.psum(x, self.axis)

    def highest(self, x: Tensor) -> Tensor:
        return lax.pmax(x, self.axis)

    def own(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Ids as rows of this device, 0 where they are another's; and whether they are its own."""
        rows = ids - self.offset
        is_own = jnp.logical_and(rows >= 0, rows < self.num_rows)
        return jnp.where(is_own, rows, 0), is_own
