"""How fast memory bandwidth and arithmetic let a model be.

**Decoding** reads every matrix once for a step of all sequences, and the keys and values of each: its time is those
bytes over the bandwidth, or the multiply-adds over the arithmetic, whichever is longer. **Prefill** and **training**
multiply every matrix with every token, so arithmetic binds them. Elsewhere than here the figures are what no program
exceeds; here the native engine's own time for each layer is added to a step's.
"""

from __future__ import annotations

import math

from gemcut.config import DecoderConfig
from gemcut.inspect.hardware import Hardware
from gemcut.inspect.show import cache_bytes
from gemcut.inspect.stored_weights import StoredWeights

# A layer's norms, attention and waiting of the native engine's threads beyond reading: the starter's 18 layers take
# 7.3 ms where reading takes 5.4 (benchmarks/results/engine-starter-decode.json, depth 0, 2 threads).
LAYER_SECONDS = 1e-4


def decode_seconds(weights: StoredWeights, hardware: Hardware, depth: int, batch: int) -> float:
    """Time of one step of `batch` sequences, each with `depth` tokens in its cache."""
    config = weights.config
    num_bytes = weights.bytes_per_token + batch * cache_bytes(config, depth, "bfloat16")
    reading = num_bytes / hardware.bandwidth_bytes_per_second
    adds = weights.layer_multiply_adds + weights.head_multiply_adds
    rate = arithmetic(weights, hardware)
    adding = 2 * batch * (adds + attention_multiply_adds(config, depth)) / rate if rate else 0.0
    return max(reading, adding) + (LAYER_SECONDS * config.num_hidden_layers if hardware.is_measured else 0.0)


def prefill_seconds(weights: StoredWeights, hardware: Hardware, tokens: int) -> float | None:
    """Least time of a prompt of `tokens` tokens; None where the device's arithmetic for these weights is not known."""
    rate = arithmetic(weights, hardware)
    if rate is None:
        return None
    layers = tokens * (weights.layer_multiply_adds + attention_multiply_adds(weights.config, tokens / 2))
    adding = 2 * (layers + weights.head_multiply_adds) / rate
    return max(adding, weights.bytes_per_token / hardware.bandwidth_bytes_per_second)


def train_seconds(weights: StoredWeights, hardware: Hardware, tokens: int, tune: str) -> float | None:
    """Least time of one training step on `tokens` tokens, bfloat16; None where that arithmetic is not known.

    Forward, the gradients of the inputs, forward again because blocks are recomputed, and with full parameters the
    gradients of the weights; the head is not recomputed.
    """
    if hardware.bf16_flops is None:
        return None
    passes = 4 if tune == "full" else 3
    layers = passes * (weights.layer_multiply_adds + attention_multiply_adds(weights.config, tokens / 2))
    return 2 * tokens * (layers + (passes - 1) * weights.head_multiply_adds) / hardware.bf16_flops


def arithmetic(weights: StoredWeights, hardware: Hardware) -> float | None:
    """Operations a second with these weights: the native engine adds 8-bit products, accelerators bfloat16 ones."""
    if not hardware.is_measured:
        return hardware.bf16_flops
    return hardware.int8_ops if weights.is_quantized else None


def attention_multiply_adds(config: DecoderConfig, keys: float) -> int:
    """Multiply-adds of the attention of one token to `keys` tokens, in all layers; sliding ones see their window."""
    seen = math.fsum(min(config.window(index) or keys, keys) for index in range(config.num_hidden_layers))
    return round(2 * config.num_attention_heads * config.head_dim * seen)
