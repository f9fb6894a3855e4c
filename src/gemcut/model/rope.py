"""Rotary position embedding: halves rotate, angles are float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from gemcut.config import RopeParameters

Tensor = Any


def rope_tables(positions: Tensor, head_dim: int, rope: RopeParameters) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each position's rotation angles.

    Args:
        positions: int32 (B, T), absolute positions from 0.
        head_dim: H, even.
        rope: Base and linear divisor of the layer's kind.

    Returns:
        Two float32 (B, 1, T, H / 2) tensors, ready to broadcast over heads.

    Source: RoFormer, arXiv:2104.09864, section 3.2; linear scaling: arXiv:2306.15595.
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = (1.0 / np.float32(rope.rope_theta) ** exponents) / np.float32(rope.factor)
    angles = ops.cast(positions, "float32")[:, None, :, None] * ops.convert_to_tensor(frequencies)  # (B, 1, T, H/2)
    return ops.cos(angles), ops.sin(angles)


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x` with its two halves rotated against each other.

    Args:
        x: float (B, heads, T, H).
        cos, sin: float32 (B, 1, T, H / 2).

    Returns:
        (B, heads, T, H) in the type of `x`; the rotation itself is float32.
    """
    first, second = ops.split(ops.cast(x, "float32"), 2, axis=-1)
    rotated = ops.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return ops.cast(rotated, x.dtype)
