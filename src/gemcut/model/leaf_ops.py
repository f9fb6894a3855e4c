"""The few operations that a backend may do better than `keras.ops`, with their reference.

`LeafOps` is that reference. A backend's own version subclasses it, overrides what it does better,
and is tested against it. Everything above is written once.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from gemcut.model.norm import rms_norm

Tensor = Any

MASKED_SCORE = -2.0e38  # below any score, yet finite in float32 and bfloat16: a fully masked row stays a number

CAUSAL_BLOCKS = 4
LEAST_CAUSAL_TOKENS = 256


def causal_blocks(num_queries: int) -> list[tuple[int, int]]:
    """Ranges of queries that causal attention takes one after another, each with the keys up to its end only.

    Four blocks spare three eighths of the work; a short chunk stays whole.
    """
    if num_queries < LEAST_CAUSAL_TOKENS or num_queries % CAUSAL_BLOCKS:
        return [(0, num_queries)]
    width = num_queries // CAUSAL_BLOCKS
    return [(begin, begin + width) for begin in range(0, num_queries, width)]


class LeafOps:
    """Leaf operations in `keras.ops`."""

    def linear(self, x: Tensor, weight: Tensor) -> Tensor:
        """`x` (..., in) times the transpose of `weight` (out, in), as (..., out) in the type of `x`."""
        return ops.matmul(x, ops.transpose(weight))

    def add_linear(self, product: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """`product` (..., out) plus `linear(x, weight)`; the storage of `product` may be reused."""
        return product + self.linear(x, weight)

    def split(self, x: Tensor, first: int, axis: int) -> tuple[Tensor, Tensor]:
        """The first so many entries of an axis, and the others."""
        before = (slice(None),) * axis
        return x[(*before, slice(first))], x[(*before, slice(first, None))]

    def before_matrix(self, matrix: str, x: Tensor) -> Tensor:
        """What a layer's matrix and its update are multiplied by, on its way there.

        Where devices hold parts of each matrix, the gradients of their parts meet here.

        Args:
            matrix: Its name in the layer, such as "self_attn.o_proj".
            x: (..., in).
        """
        del matrix
        return x

    def after_matrix(self, matrix: str, product: Tensor) -> Tensor:
        """The product (..., out) on its way on; where devices hold some columns each, their parts meet here."""
        del matrix
        return product

    def head(self, x: Tensor, weight: Tensor) -> Tensor:
        """Logits of hidden states: (R, D) times the transpose of (V, D), as float32 (R, V)."""
        return ops.cast(self.linear(x, weight), "float32")

    def rms_norm(self, x: Tensor, gain: Tensor, eps: float, unit_offset: bool) -> Tensor:
        """See `gemcut.model.norm.rms_norm`."""
        return rms_norm(x, gain, eps, unit_offset)

    def attention(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, softcap: float | None
    ) -> Tensor:
        """Softmax attention with grouped queries; softmax in float32.

        Args:
            queries: (B, N, T, H).
            keys, values: (B, K, S, H).
            mask: bool (B, T, S), True where attention is allowed; None when T = S and each query sees
                the keys up to its own.
            scale: Multiplies the scores.
            softcap: c in c * tanh(scores / c), before the mask; None for none.

        Returns:
            (B, T, N * H) in the type of `queries`.

        Source: GQA, arXiv:2305.13245; soft-capping: Gemma 2 report, arXiv:2408.00118, section 2.
        """
        batch, num_heads, num_queries, head_dim = queries.shape
        num_kv_heads = keys.shape[1]
        group = num_heads // num_kv_heads
        grouped = ops.reshape(queries, (batch, num_kv_heads, group * num_queries, head_dim))
        scores = self.scores(grouped, keys) * scale  # (B, K, G * T, S)
        if softcap is not None:
            scores = softcap * ops.tanh(scores / softcap)
        scores = ops.reshape(scores, (batch, num_kv_heads, group, num_queries, keys.shape[2]))
        if mask is None:
            order = ops.arange(num_queries, dtype="int32")
            mask = (order[None, :] <= order[:, None])[None]  # (1, T, S)
        scores = ops.where(mask[:, None, None, :, :], scores, MASKED_SCORE)
        shares = ops.cast(ops.softmax(scores, axis=-1), queries.dtype)
        shares = ops.reshape(shares, (batch, num_kv_heads, group * num_queries, keys.shape[2]))
        mixed = ops.reshape(ops.matmul(shares, values), (batch, num_heads, num_queries, head_dim))
        return ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (batch, num_queries, num_heads * head_dim))

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """float32 dot products (B, K, R, S) of (B, K, R, H) with (B, K, S, H)."""
        return ops.cast(ops.matmul(queries, ops.swapaxes(keys, -1, -2)), "float32")

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
        """Attention of one new position of each sequence, which enters the cache.

        Args:
            queries: (B, N, 1, H).
            keys, values: (B, K, 1, H), of the new position.
            caches: Keys and values (B, K, S, H); their storage may be reused.
            slots: int32 (B,), where the new position goes.
            mask: bool (B, 1, R), allowed slots once it is there; R at most S: further slots are empty.
            scale, softcap: As in `attention`.

        Returns:
            (B, 1, N * H) in the type of `queries`, and the two caches.
        """
        all_keys, all_values = (
            self.write_token(cache, new, slots) for cache, new in zip(caches, (keys, values), strict=True)
        )
        read = mask.shape[2]
        attended = self.attention(queries, all_keys[:, :, :read], all_values[:, :, :read], mask, scale, softcap)
        return attended, (all_keys, all_values)

    def write_token(self, cache: Tensor, new: Tensor, slots: Tensor) -> Tensor:
        """The cache with one position of each sequence replaced.

        Args:
            cache: (B, K, S, H).
            new: (B, K, 1, H).
            slots: int32 (B,), in [0, S).

        Returns:
            (B, K, S, H); a backend may reuse the storage of `cache`.
        """
        hit = ops.arange(cache.shape[2], dtype="int32")[None, :] == slots[:, None]  # (B, S)
        return ops.where(hit[:, None, :, None], new, cache)

    def write_chunk(self, cache: Tensor, new: Tensor, starts: Tensor, counts: Tensor, fresh: bool = False) -> Tensor:
        """The cache after a chunk of positions went in; position p lives in slot p % S.

        Args:
            cache: (B, K, S, H), holding positions before `starts`.
            new: (B, K, T, H): row b's first `counts[b]` entries are positions `starts[b]` and up.
            starts, counts: int32 (B,).
            fresh: Every start is 0.

        Returns:
            (B, K, S, H); a backend may reuse the storage of `cache`. Slots that hold no position are undefined.
        """
        if fresh and new.shape[2] <= cache.shape[2]:
            return ops.slice_update(cache, (0, 0, 0, 0), new)
        num_slots, num_new = cache.shape[2], new.shape[2]
        last = (starts + counts)[:, None] - 1  # (B, 1)
        held = last - ops.mod(last - ops.arange(num_slots, dtype="int32")[None, :], num_slots)  # (B, S) positions
        source = ops.clip(held - starts[:, None], 0, num_new - 1)
        taken = ops.take_along_axis(new, source[:, None, :, None], axis=2)  # (B, K, S, H)
        return ops.where((held >= starts[:, None])[:, None, :, None], taken, cache)
