"""Root-mean-square normalisation, in the two orders of casts that published models use."""

from __future__ import annotations

from typing import Any

from keras import ops

Tensor = Any


def rms_norm(x: Tensor, gain: Tensor, eps: float, unit_offset: bool) -> Tensor:
    """`x` divided by its root mean square over the last axis, times the gain; arithmetic in float32.

    Args:
        x: float (..., D).
        gain: float (D,), as stored, or (..., D) where gains differ along further axes.
        eps: Added to the mean square.
        unit_offset: True multiplies by (1 + gain) in float32 and casts last (Gemma);
            False casts first and multiplies by gain in the type of `x` (Llama).

    Returns:
        (..., D) in the type of `x`.

    Source: Hugging Face transformers, modeling_gemma.py (GemmaRMSNorm) and modeling_llama.py (LlamaRMSNorm).
    """
    wide = ops.cast(x, "float32")
    normed = wide * ops.rsqrt(ops.mean(ops.square(wide), axis=-1, keepdims=True) + eps)
    if unit_offset:
        return ops.cast(normed * (1.0 + ops.cast(gain, "float32")), x.dtype)
    return ops.cast(gain, x.dtype) * ops.cast(normed, x.dtype)
