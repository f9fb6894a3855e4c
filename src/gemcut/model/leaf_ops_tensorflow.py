"""Leaf operations on TensorFlow, for code that XLA compiles."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import ops

from gemcut.model.leaf_ops_xla import XlaOps

Tensor = Any


class BackendOps(XlaOps):
    """Products as plain two-dimensional matmuls and in-place cache writes."""

    def linear(self, x: Tensor, weight: Tensor) -> Tensor:
        if len(x.shape) == 2:
            return tf.linalg.matmul(x, weight, transpose_b=True)
        flat = tf.reshape(x, (-1, x.shape[-1]))
        product = tf.linalg.matmul(flat, weight, transpose_b=True)
        return tf.reshape(product, (*x.shape[:-1], weight.shape[0]))

    def split(self, x: Tensor, first: int, axis: int) -> tuple[Tensor, Tensor]:
        # One operation: the gradients of two slices would each fill a tensor of zeros.
        head, rest = tf.split(x, [first, x.shape[axis] - first], axis)
        return head, rest

    def write_token(self, cache: Tensor, new: Tensor, slots: Tensor) -> Tensor:
        if cache.shape[0] == 1:
            return ops.slice_update(cache, (0, 0, slots[0], 0), new)
        return super().write_token(cache, new, slots)
