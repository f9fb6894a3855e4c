"""Leaf operations in the form that XLA compiles without copying caches: shared by JAX and TensorFlow."""

from __future__ import annotations

from typing import Any

from keras import ops

from gemcut.model.leaf_ops import MASKED_SCORE, LeafOps, causal_blocks

Tensor = Any


class XlaOps(LeafOps):
    """Attention that reads no more than it must, and caches that are written in place."""

    def attention(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, softcap: float | None
    ) -> Tensor:
        if mask is not None:
            return super().attention(queries, keys, values, mask, scale, softcap)
        order = ops.arange(queries.shape[2], dtype="int32")
        blocks = []
        for begin, end in causal_blocks(queries.shape[2]):
            seen = (order[None, :end] <= order[begin:end, None])[None]  # (1, end - begin, end)
            blocks.append(
                super().attention(queries[:, :, begin:end], keys[:, :, :end], values[:, :, :end], seen, scale, softcap)
            )
        return ops.concatenate(blocks, axis=1)

    # The new position is attended to beside the cache, not in it. Were the cache written first, XLA would write it
    # twice, for the attention and for the output, and copy it before each: four copies a token (docs/tried.md).
    def attend_next(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        caches: tuple[Tensor, Tensor],
        slots: Tensor,
        mask: Tensor,
        scale: float,
        softcap: float | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        batch, num_heads, _, head_dim = queries.shape
        num_kv_heads, read = caches[0].shape[1], mask.shape[2]
        grouped = ops.reshape(queries, (batch, num_kv_heads, num_heads // num_kv_heads, head_dim))  # (B, K, G, H)
        own = ops.sum(ops.cast(grouped, "float32") * ops.cast(keys, "float32"), axis=-1, keepdims=True) * scale
        others = self.scores(grouped, caches[0][:, :, :read]) * scale  # (B, K, G, R)
        if softcap is not None:
            own, others = (softcap * ops.tanh(scores / softcap) for scores in (own, others))
        earlier = ops.logical_and(mask, ops.arange(read, dtype="int32") != slots[:, None, None])  # (B, 1, R)
        others = ops.where(earlier[:, None], others, MASKED_SCORE)
        peak = ops.maximum(ops.max(others, axis=-1, keepdims=True), own)
        own_weight, weights = ops.exp(own - peak), ops.exp(others - peak)
        total = ops.sum(weights, axis=-1, keepdims=True) + own_weight
        mixed = ops.matmul(ops.cast(weights / total, queries.dtype), caches[1][:, :, :read])  # (B, K, G, H)
        mixed = mixed + ops.cast(own_weight / total, queries.dtype) * values
        attended = ops.reshape(mixed, (batch, 1, num_heads * head_dim))
        # The writes wait for the reads: only then can they happen in place. Zero times a finite number is zero.
        after = 0 * attended[:, :, :1, None]  # (B, 1, 1, 1)
        all_keys, all_values = (
            self.write_token(cache, new + after, slots) for cache, new in zip(caches, (keys, values), strict=True)
        )
        return attended, (all_keys, all_values)
