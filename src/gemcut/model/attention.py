"""Grouped-query attention: who may see whom, and the weighted sum of values."""

from __future__ import annotations

from typing import Any

from keras import ops

from gemcut.config import DecoderConfig
from gemcut.model.adapter import adapted_linear
from gemcut.model.leaf_ops import LeafOps
from gemcut.model.rope import apply_rope

Tensor = Any


def slot_positions(lengths: Tensor, num_slots: int) -> Tensor:
    """The position that each cache slot holds, by the rule that position p lives in slot p % S.

    Args:
        lengths: int32 (B,), tokens written so far.
        num_slots: S.

    Returns:
        int32 (B, S); below 0 where a slot is still empty.
    """
    last = lengths[:, None] - 1  # (B, 1)
    slots = ops.arange(num_slots, dtype="int32")[None, :]
    newest = ops.mod(last, num_slots)  # the slot of the last position; slots after it are one round behind
    return last - newest + slots - ops.where(slots > newest, num_slots, 0)


def attention_mask(query_positions: Tensor, key_positions: Tensor, window: int | None) -> Tensor:
    """Which keys each query may attend to.

    Args:
        query_positions: int32 (B, T), absolute positions.
        key_positions: int32 (B, S); below 0 marks an empty slot.
        window: Tokens a query sees, its own included; None for all before it.

    Returns:
        bool (B, T, S), True where attention is allowed.

    Source: Gemma 2 report, arXiv:2408.00118, section 2.
    """
    queries, keys = query_positions[:, :, None], key_positions[:, None, :]
    allowed = ops.logical_and(keys <= queries, keys >= 0)
    if window is not None:
        allowed = ops.logical_and(allowed, keys > queries - window)
    return allowed


def project_heads(
    weights: dict[str, Tensor], x: Tensor, cos: Tensor, sin: Tensor, config: DecoderConfig, leaf: LeafOps
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of one layer, normalised and rotated.

    Args:
        weights: The layer's tensors by name.
        x: (B, T, D), after the layer's input norm.
        cos, sin: float32 (B, 1, T, H / 2).
        config: Sizes and switches.
        leaf: The backend's leaf operations.

    Returns:
        Queries (B, N, T, H), keys (B, K, T, H) and values (B, K, T, H).
    """
    num_heads, num_kv_heads = config.num_attention_heads, config.num_key_value_heads
    flat = adapted_linear(weights, "self_attn.qkv_proj", x, leaf)  # (B, T, (N + 2 K) * H)
    heads = ops.reshape(flat, (*flat.shape[:2], num_heads + 2 * num_kv_heads, config.head_dim))
    rotated, values = leaf.split(heads, num_heads + num_kv_heads, axis=2)  # queries and keys go together
    if config.qk_norm:
        gains = [
            ops.broadcast_to(weights[f"self_attn.{name}_norm.weight"], (count, config.head_dim))
            for name, count in (("q", num_heads), ("k", num_kv_heads))
        ]
        rotated = leaf.rms_norm(rotated, ops.concatenate(gains), config.rms_norm_eps, config.norm_unit_offset)
    rotated = apply_rope(ops.transpose(rotated, (0, 2, 1, 3)), cos, sin)  # (B, N + K, T, H)
    queries, keys = leaf.split(rotated, num_heads, axis=1)
    return queries, keys, ops.transpose(values, (0, 2, 1, 3))
