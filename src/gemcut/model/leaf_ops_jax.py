"""Leaf operations on JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from gemcut.model.leaf_ops_xla import XlaOps

Tensor = Any


class BackendOps(XlaOps):
    """What XLA does better when asked in its own words."""

    def linear(self, x: Tensor, weight: Tensor) -> Tensor:
        return self._product(x, weight, x.dtype)

    def head(self, x: Tensor, weight: Tensor) -> Tensor:
        return self._product(x, weight, jnp.float32)

    def _product(self, x: Tensor, weight: Tensor, out_dtype: Any) -> Tensor:
        num_rows = x.size // x.shape[-1]
        if weight.dtype == jnp.bfloat16 and jax.default_backend() == "cpu":
            # XLA's CPU bfloat16 product reads 1.5 GB/s; as float32 multiply-and-sum it reads 17 (docs/tried.md).
            if num_rows == 1:
                wide = weight.astype(jnp.float32) * x.reshape(-1).astype(jnp.float32)
                return wide.sum(-1).reshape((*x.shape[:-1], weight.shape[0])).astype(out_dtype)
            x, weight = x.astype(jnp.float32), weight.astype(jnp.float32)
        contract = (((x.ndim - 1,), (1,)), ((), ()))
        return lax.dot_general(x, weight, contract, preferred_element_type=jnp.float32).astype(out_dtype)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        return jnp.einsum("bkrh,bksh->bkrs", queries, keys, preferred_element_type=jnp.float32)

    def write_token(self, cache: Tensor, new: Tensor, slots: Tensor) -> Tensor:
        if cache.shape[0] == 1:
            return lax.dynamic_update_slice(cache, new, (0, 0, slots[0], 0))
        rows = jnp.arange(cache.shape[0])
        return cache.at[rows, :, slots, :].set(new[:, :, 0, :])
