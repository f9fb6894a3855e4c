"""Grouped-query attention: who may see whom, and the weighted sum of values."""

from __future__ import annotations

from typing import Any

from keras import ops

from gemcut.config import DecoderConfig
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
    return last - ops.mod(last - slots, num_slots)


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

    def heads(name: str, count: int) -> Tensor:
        flat = leaf.linear(x, weights[f"self_attn.{name}_proj.weight"])  # (B, T, count * H)
        split = ops.reshape(flat, (flat.shape[0], flat.shape[1], count, config.head_dim))
        if config.qk_norm and name != "v":
            gain = weights[f"self_attn.{name}_norm.weight"]
            split = leaf.rms_norm(split, gain, config.rms_norm_eps, config.norm_unit_offset)
        return ops.transpose(split, (0, 2, 1, 3))

    queries = apply_rope(heads("q", config.num_attention_heads), cos, sin)
    keys = apply_rope(heads("k", config.num_key_value_heads), cos, sin)
    return queries, keys, heads("v", config.num_key_value_heads)
