"""Leaf operations on PyTorch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional

from gemcut.model.leaf_ops import MASKED_SCORE, LeafOps, causal_blocks

Tensor = Any


class BackendOps(LeafOps):
    """PyTorch's own kernels, and forms that its compiler turns into full-bandwidth loops."""

    def linear(self, x: Tensor, weight: Tensor) -> Tensor:
        if torch.compiler.is_compiling() and x.numel() == x.shape[-1] and x.device.type == "cpu":
            # One row: the library's matrix-vector product reads 12-15 GB/s, this compiled loop 33-46 (docs/tried.md).
            return (weight * x.reshape(-1)).sum(-1).reshape(*x.shape[:-1], weight.shape[0])
        return functional.linear(x, weight)

    def head(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.linear(x, weight).float()

    def rms_norm(self, x: Tensor, gain: Tensor, eps: float, unit_offset: bool) -> Tensor:
        wide = x.float()
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
        if unit_offset:
            return (normed * (1.0 + gain.float())).to(x.dtype)
        return gain.to(x.dtype) * normed.to(x.dtype)

    def attention(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, softcap: float | None
    ) -> Tensor:
        if softcap is not None:
            return super().attention(queries, keys, values, mask, scale, softcap)
        batch, num_heads, num_queries, head_dim = queries.shape
        group = num_heads // keys.shape[1]
        if mask is None and queries.device.type == "cpu":
            return self._causal_attention(queries, keys, values, scale)
        if mask is None:
            mixed = functional.scaled_dot_product_attention(
                queries, keys, values, is_causal=True, scale=scale, enable_gqa=group > 1
            )
            return mixed.transpose(1, 2).reshape(batch, num_queries, num_heads * head_dim)
        if num_queries == 1 and group > 1:  # fold the group into the query axis: keys and values are read once
            queries = queries.reshape(batch, keys.shape[1], group, head_dim)
            mixed = functional.scaled_dot_product_attention(
                queries, keys, values, attn_mask=mask[:, None].expand(batch, 1, group, -1), scale=scale
            )
            return mixed.reshape(batch, 1, num_heads * head_dim)
        mixed = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask[:, None], scale=scale, enable_gqa=group > 1
        )
        return mixed.transpose(1, 2).reshape(batch, num_queries, num_heads * head_dim)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        return torch.matmul(queries, keys.transpose(-1, -2)).float()

    def write_token(self, cache: Tensor, new: Tensor, slots: Tensor) -> Tensor:
        cache[torch.arange(cache.shape[0], device=cache.device), :, slots.long()] = new[:, :, 0]
        return cache

    def write_chunk(self, cache: Tensor, new: Tensor, starts: Tensor, counts: Tensor, fresh: bool = False) -> Tensor:
        if fresh and new.shape[2] <= cache.shape[2]:
            cache[:, :, : new.shape[2]] = new
            return cache
        return super().write_chunk(cache, new, starts, counts)

    def _causal_attention(self, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """Causal attention as plain products: on CPU a quarter faster than PyTorch's kernel, in bfloat16 twice."""
        batch, num_heads, num_queries, head_dim = queries.shape
        num_kv_heads = keys.shape[1]
        group = num_heads // num_kv_heads
        attended = queries.new_empty((batch, num_queries, num_heads * head_dim))
        order = torch.arange(num_queries)
        for begin, end in causal_blocks(num_queries):
            width = end - begin
            grouped = queries[:, :, begin:end].reshape(batch, num_kv_heads, group * width, head_dim)
            scores = self.scores(grouped, keys[:, :, :end]).mul_(scale)  # float32 (B, K, G * width, end)
            scores = scores.view(batch, num_kv_heads, group, width, end)
            scores.masked_fill_(order[None, :end] > order[begin:end, None], MASKED_SCORE)
            shares = torch.softmax(scores, -1).to(queries.dtype).view(batch, num_kv_heads, group * width, end)
            mixed = torch.matmul(shares, values[:, :, :end]).view(batch, num_heads, width, head_dim)
            attended[:, begin:end] = mixed.transpose(1, 2).reshape(batch, width, num_heads * head_dim)
        return attended
