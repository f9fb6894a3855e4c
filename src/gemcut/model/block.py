"""One decoder block as pure functions of its weights.

The block is cut at the attention: `begin_block` makes queries, keys and values, `finish_block` takes
the attention's output back into the residual stream. A runner puts its cache between the two.
The residual stream is float32 when the weights are float16, whose range Gemma's activations exceed.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from gemcut.config import DecoderConfig
from gemcut.model.adapter import adapted_linear
from gemcut.model.attention import project_heads
from gemcut.model.feed_forward import feed_forward
from gemcut.model.leaf_ops import LeafOps

Tensor = Any


def residual_dtype(compute_dtype: str) -> str:
    """Type of the residual stream for weights of `compute_dtype`."""
    return "float32" if compute_dtype == "float16" else compute_dtype


def begin_block(
    weights: dict[str, Tensor], x: Tensor, cos: Tensor, sin: Tensor, config: DecoderConfig, leaf: LeafOps
) -> tuple[Tensor, Tensor, Tensor]:
    """From the residual stream to queries, keys and values.

    Args:
        weights: The layer's tensors by name.
        x: (B, T, D), the residual stream.
        cos, sin: float32 (B, 1, T, H / 2) of the layer's kind.
        config: Sizes and switches.
        leaf: The backend's leaf operations.

    Returns:
        Queries (B, N, T, H), keys (B, K, T, H), values (B, K, T, H), in the weights' type.
    """
    normed = _norm(weights, "input_layernorm", x, config, leaf)
    normed = ops.cast(normed, weights["self_attn.qkv_proj.weight"].dtype)
    return project_heads(weights, normed, cos, sin, config, leaf)


def finish_block(
    weights: dict[str, Tensor], x: Tensor, attended: Tensor, config: DecoderConfig, leaf: LeafOps
) -> Tensor:
    """From the attention's output to the next block's residual stream.

    Args:
        weights: The layer's tensors by name.
        x: (B, T, D), the residual stream that `begin_block` saw.
        attended: (B, T, N * H), the attention's output.
        config: Sizes and switches.
        leaf: The backend's leaf operations.

    Returns:
        (B, T, D) in the type of `x`.
    """
    branch = ops.cast(adapted_linear(weights, "self_attn.o_proj", attended, leaf), x.dtype)
    if config.post_norms:
        branch = _norm(weights, "post_attention_layernorm", branch, config, leaf)
    x = x + branch
    before = "pre_feedforward_layernorm" if config.post_norms else "post_attention_layernorm"
    normed = ops.cast(_norm(weights, before, x, config, leaf), attended.dtype)
    branch = ops.cast(feed_forward(weights, normed, config, leaf), x.dtype)
    if config.post_norms:
        branch = _norm(weights, "post_feedforward_layernorm", branch, config, leaf)
    return x + branch


def _norm(weights: dict[str, Tensor], name: str, x: Tensor, config: DecoderConfig, leaf: LeafOps) -> Tensor:
    return leaf.rms_norm(x, weights[f"{name}.weight"], config.rms_norm_eps, config.norm_unit_offset)
