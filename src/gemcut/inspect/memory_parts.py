"""What takes memory while a model answers, and while it is tuned.

**Answering**: weights, keys and values in 16 bits, the values of one chunk of the prompt on their way through a layer,
and the logits. **Tuning** holds, for full parameters, 16 bytes each: a float32 master, its gradient, two moments of
Adam. LoRA keeps the weights in bfloat16 and 16 bytes for each number of its adapters. Blocks are recomputed in the
backward pass, so only the residual stream between them stays, and one block's own values at a time; the loss goes over
the vocabulary in chunks of tokens.
"""

from __future__ import annotations

import math

from gemcut.config import DecoderConfig
from gemcut.config.parameters import layer_shapes, num_parameters
from gemcut.inspect.hardware import Hardware
from gemcut.inspect.show import cache_bytes
from gemcut.inspect.stored_weights import StoredWeights

LORA_RANK = 16
_CHUNK_TOKENS = 512  # of a prompt that go through the layers at once
_LOGIT_CHUNK_TOKENS = 256  # of the loss
# Python with the native engine. On an accelerator, programs, workspace and fragments take a share of the memory:
# published serving configurations of Gemma give 0.80 to 0.95 of it to weights, cache and activations.
_NATIVE_BYTES = 128 << 20
_ACCELERATOR_SHARE = 0.1
_MASTER_BYTES, _GRADIENT_BYTES, _MOMENTS_BYTES = 4, 4, 8


def answering_parts(weights: StoredWeights, hardware: Hardware, context: int, batch: int) -> dict[str, int]:
    """Bytes of each part while `batch` sequences of up to `context` tokens are answered."""
    config = weights.config
    chunk = batch * min(_CHUNK_TOKENS, context)
    return {
        "weights": weights.num_bytes,
        "kv_cache": batch * cache_bytes(config, context, "bfloat16"),
        "activations": 4 * chunk * (_residual_values(config) + _block_values(config)),
        "logits": 4 * batch * config.vocab_size,
        "engine": engine_bytes(hardware),
    }


def tuning_parts(config: DecoderConfig, hardware: Hardware, tokens: int, batch: int, tune: str) -> dict[str, int]:
    """Bytes of each part of a training step on `batch` sequences of `tokens` tokens.

    Args:
        config: The decoder.
        hardware: Where.
        tokens: Length of a sequence.
        batch: Sequences in a step.
        tune: "lora" (rank LORA_RANK on every matrix of the layers) or "full".
    """
    total = num_parameters(config)
    trained = lora_parameters(config) if tune == "lora" else total
    kept = {"weights": 2 * total, "adapters": _MASTER_BYTES * trained} if tune == "lora" else {"weights": 4 * total}
    attention = batch * config.num_attention_heads * tokens**2  # scores of one block, for backends without a fused one
    return kept | {
        "gradients": _GRADIENT_BYTES * trained,
        "optimizer": _MOMENTS_BYTES * trained,
        "residual_stream": 2 * batch * tokens * config.hidden_size * config.num_hidden_layers,
        "activations": 2 * 2 * (batch * tokens * _block_values(config) + attention),  # and their gradients
        "logits": 3 * 4 * min(_LOGIT_CHUNK_TOKENS, batch * tokens) * config.vocab_size,  # float32, softmax, gradient
        "engine": engine_bytes(hardware),
    }


def lora_parameters(config: DecoderConfig) -> int:
    """Numbers in adapters of rank LORA_RANK on every matrix of the layers."""
    shapes = [shape for shape in layer_shapes(config).values() if len(shape) == 2]
    return config.num_hidden_layers * LORA_RANK * sum(map(sum, shapes))


def engine_bytes(hardware: Hardware) -> int:
    """Memory that an engine takes whatever the model."""
    return _NATIVE_BYTES if hardware.is_measured else math.ceil(_ACCELERATOR_SHARE * hardware.memory_bytes)


def _residual_values(config: DecoderConfig) -> int:
    """Numbers of the residual stream for one token, with its normalised copy."""
    return 2 * config.hidden_size


def _block_values(config: DecoderConfig) -> int:
    """Numbers that one token has inside a block: queries, keys, values, mixed values, gate, up and their product."""
    heads = 2 * config.num_attention_heads + 2 * config.num_key_value_heads
    return heads * config.head_dim + 3 * config.intermediate_size + 2 * config.hidden_size
