"""The gated feed-forward branch of a block."""

from __future__ import annotations

from typing import Any

from keras import ops

from gemcut.config import DecoderConfig
from gemcut.model.adapter import adapted_linear
from gemcut.model.leaf_ops import LeafOps

Tensor = Any


def feed_forward(weights: dict[str, Tensor], x: Tensor, config: DecoderConfig, leaf: LeafOps) -> Tensor:
    """down(activation(gate(x)) * up(x)).

    Args:
        weights: The layer's tensors by name.
        x: (B, T, D), after the norm before the feed-forward.
        config: Names the activation.
        leaf: The backend's leaf operations.

    Returns:
        (B, T, D) in the type of `x`.

    Source: GLU variants, arXiv:2002.05202, section 2.
    """
    both = adapted_linear(weights, "mlp.gate_up_proj", x, leaf)  # (B, T, 2 F)
    gate, up = ops.split(both, 2, axis=-1)
    if config.hidden_activation == "silu":
        gate = ops.silu(gate)
    else:
        gate = ops.gelu(gate, approximate=True)
    return adapted_linear(weights, "mlp.down_proj", gate * up, leaf)
