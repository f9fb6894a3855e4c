"""Choosing the next token from logits, in `keras.ops`, so that a whole burst of tokens stays on the device.

Cuts are found by bisection on the probability, not by sorting the vocabulary: a few dozen masked sums
over V numbers instead of a sort. Tokens whose probabilities differ by less than 2**-30 of the largest
count as equal, and stay or go together. `gemcut.model.sampling_host` is the NumPy form of the same rules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from gemcut.interfaces import SamplingOptions

Tensor = Any

BISECTION_STEPS = 30
DRAW_BLOCKS = 512  # the vocabulary is drawn from in two levels: a block, then a token in it


@dataclasses.dataclass(frozen=True)
class SamplingVariant:
    """What a compiled decoding function has to be able to do.

    Attributes:
        draws: Some row has a temperature above 0.
        penalties: Some row has a penalty or a bias.
        num_top_logprobs: As in `LanguageModel.decode`.
        masked: A mask of allowed tokens is given.
    """

    draws: bool = False
    penalties: bool = False
    num_top_logprobs: int | None = None
    masked: bool = False

    @classmethod
    def of(cls, options: Sequence[SamplingOptions], num_top_logprobs: int | None, masked: bool) -> SamplingVariant:
        """The least that serves every row of a batch."""
        return cls(
            draws=any(row.temperature > 0 for row in options),
            penalties=any(row.has_penalties for row in options),
            num_top_logprobs=num_top_logprobs,
            masked=masked,
        )


def sampling_arrays(
    options: Sequence[SamplingOptions],
    variant: SamplingVariant,
    vocab_size: int,
    seen: Sequence[Sequence[int]],
    answered: Sequence[Sequence[int]],
    mask: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The options of B sequences as arrays, only those that the variant uses.

    Args:
        options: One for each sequence.
        variant: From `SamplingVariant.of`.
        vocab_size: V.
        seen: Token ids of each sequence, prompt and answer.
        answered: Token ids of each answer so far.
        mask: bool (B, V) of allowed tokens.

    Returns:
        "temperature", "top_p", "min_p" float32 (B,) and "top_k" int32 (B,) (V for no cut);
        "repetition", "presence", "frequency" float32 (B,), "bias" float32 (B, V), "seen" bool (B, V) and
        "counts" float32 (B, V); "mask" bool (B, V).
    """
    arrays: dict[str, np.ndarray] = {}
    if variant.draws:
        arrays["temperature"] = np.array([row.temperature for row in options], np.float32)
        arrays["top_k"] = np.array([min(row.top_k or vocab_size, vocab_size) for row in options], np.int32)
        arrays["top_p"] = np.array([row.top_p for row in options], np.float32)
        arrays["min_p"] = np.array([row.min_p for row in options], np.float32)
    if variant.penalties:
        arrays["repetition"] = np.array([row.repetition_penalty for row in options], np.float32)
        arrays["presence"] = np.array([row.presence_penalty for row in options], np.float32)
        arrays["frequency"] = np.array([row.frequency_penalty for row in options], np.float32)
        arrays["bias"] = np.zeros((len(options), vocab_size), np.float32)
        arrays["seen"] = np.zeros((len(options), vocab_size), bool)
        arrays["counts"] = np.zeros((len(options), vocab_size), np.float32)
        for row, option in enumerate(options):
            for token_id, bias in option.logit_bias:
                arrays["bias"][row, token_id] += bias
            arrays["seen"][row, list(seen[row])] = True
            np.add.at(arrays["counts"][row], list(answered[row]), 1.0)
    if mask is not None:
        arrays["mask"] = mask
    return arrays


def adjusted_logits(logits: Tensor, arrays: dict[str, Tensor], variant: SamplingVariant) -> Tensor:
    """Logits (B, V) after repetition penalty, presence and frequency penalties, bias and mask.

    Source: repetition penalty: CTRL, arXiv:1909.05858, section 4.1; presence and frequency: OpenAI API reference.
    """
    if variant.penalties:
        repetition = arrays["repetition"][:, None]
        penalised = ops.where(logits > 0, logits / repetition, logits * repetition)
        logits = ops.where(arrays["seen"], penalised, logits)
        counts = arrays["counts"]
        logits = logits - arrays["presence"][:, None] * ops.cast(counts > 0, "float32")
        logits = logits - arrays["frequency"][:, None] * counts + arrays["bias"]
    if variant.masked:
        logits = ops.where(arrays["mask"], logits, -np.inf)
    return logits


def choose_tokens(logits: Tensor, arrays: dict[str, Tensor], uniforms: Tensor, variant: SamplingVariant) -> Tensor:
    """One token id for each row, int32 (B,).

    Args:
        logits: float32 (B, V), as the model gave them.
        arrays: From `sampling_arrays`.
        uniforms: float32 (B,) in [0, 1).
        variant: What `arrays` holds.
    """
    logits = adjusted_logits(logits, arrays, variant)
    best = first_largest(logits)
    if not variant.draws:
        return best
    temperature = arrays["temperature"]
    scaled = logits / ops.where(temperature > 0, temperature, 1.0)[:, None]
    weights = ops.exp(scaled - ops.max(scaled, axis=-1, keepdims=True))  # (B, V), the largest is 1
    weights = _kept(weights, arrays)
    return ops.where(temperature > 0, _draw(weights, uniforms), best)


def first_largest(logits: Tensor) -> Tensor:
    """int32 (B,): the lowest id of the largest logit (B, V); two plain reductions, which XLA runs 7 times faster."""
    vocab_size = logits.shape[1]
    ids = ops.arange(vocab_size, dtype="int32")[None, :]
    largest = logits == ops.max(logits, axis=-1, keepdims=True)
    return ops.minimum(ops.min(ops.where(largest, ids, vocab_size), axis=-1), vocab_size - 1)


def top_logprobs(logits: Tensor, token_ids: Tensor, num_top: int) -> tuple[Tensor, ...]:
    """Log-probabilities under the model's own distribution.

    Returns:
        float32 (B,) of `token_ids`; for `num_top` above 0 also the best ids int32 (B, k) and theirs float32 (B, k).
    """
    total = ops.logsumexp(logits, axis=-1, keepdims=True)  # (B, 1)
    chosen = (ops.take_along_axis(logits, token_ids[:, None], axis=1) - total)[:, 0]
    if not num_top:
        return (chosen,)
    best, best_ids = ops.top_k(logits, num_top)
    return chosen, ops.cast(best_ids, "int32"), best - total


def _kept(weights: Tensor, arrays: dict[str, Tensor]) -> Tensor:
    """Unnormalised probabilities (B, V), largest 1, with top-k, then top-p, then min-p cut to 0."""
    top_k = ops.cast(arrays["top_k"], "float32")
    by_rank = _threshold(weights, lambda kept: ops.sum(ops.cast(kept, "float32"), axis=-1), top_k)
    weights = ops.where(weights >= by_rank[:, None], weights, 0.0)
    wanted = arrays["top_p"] * ops.sum(weights, axis=-1)
    by_mass = _threshold(weights, lambda kept: ops.sum(ops.where(kept, weights, 0.0), axis=-1), wanted)
    by_mass = ops.where(arrays["top_p"] < 1.0, by_mass, 0.0)
    return ops.where(weights >= ops.maximum(by_mass, arrays["min_p"])[:, None], weights, 0.0)


def _threshold(weights: Tensor, measure: Any, wanted: Tensor) -> Tensor:
    """The largest threshold (B,), to 2**-30, for which measure(weights >= threshold) reaches `wanted`."""

    def halve(_: Any, bounds: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        low, high = bounds  # low always reaches what is wanted; high is the least known bound that does not
        middle = (low + high) * 0.5
        reached = measure(weights >= middle[:, None]) >= wanted
        return ops.where(reached, middle, low), ops.where(reached, high, middle)

    zeros = ops.zeros_like(wanted)
    low, _ = ops.fori_loop(0, BISECTION_STEPS, halve, (zeros, zeros + 1.0 + 2.0**-20))
    return low


def _draw(weights: Tensor, uniforms: Tensor) -> Tensor:
    """int32 (B,): the first token at which the running sum of weights (B, V) passes uniform * total."""
    batch, vocab_size = weights.shape
    width = -(-vocab_size // DRAW_BLOCKS)
    padded = ops.pad(weights, ((0, 0), (0, width * DRAW_BLOCKS - vocab_size)))
    blocks = ops.reshape(padded, (batch, DRAW_BLOCKS, width))
    sums = ops.sum(blocks, axis=-1)  # (B, blocks)
    running = ops.cumsum(sums, axis=-1)
    target = uniforms * running[:, -1]
    block = _first_past(sums, running, target)[:, None]
    inside = ops.take_along_axis(blocks, block[:, :, None], axis=1)[:, 0]  # (B, width)
    before = ops.take_along_axis(running - sums, block, axis=1)[:, 0]
    return block[:, 0] * width + _first_past(inside, ops.cumsum(inside, axis=-1), target - before)


def _first_past(weights: Tensor, running: Tensor, target: Tensor) -> Tensor:
    """int32 (B,): the first index with weight whose running sum is above target (B,), else the last with weight.

    A parallel running sum may fall by a rounding where a weight of 0 is added, so it alone does not tell the index.
    """
    has_weight = weights > 0  # (B, W)
    passed = ops.logical_and(running > target[:, None], has_weight)
    first = ops.argmax(ops.cast(passed, "int32"), axis=-1)
    last = weights.shape[-1] - 1 - ops.argmax(ops.cast(ops.flip(has_weight, axis=-1), "int32"), axis=-1)
    return ops.cast(ops.where(ops.any(passed, axis=-1), first, last), "int32")
