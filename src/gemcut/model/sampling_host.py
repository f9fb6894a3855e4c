"""Choosing the next token on the host, in NumPy: what `gemcut.model.sampling` does, by sorting a few candidates."""

from __future__ import annotations

import numpy as np

from gemcut.model.sampling import SamplingVariant

CANDIDATE_SHARE = 1e-9  # tokens below this share of the best one's weight are sorted only when a cut needs them


def choose_tokens(
    logits: np.ndarray, arrays: dict[str, np.ndarray], uniforms: np.ndarray, variant: SamplingVariant
) -> np.ndarray:
    """One token id for each row, int32 (B,); arguments as in `gemcut.model.sampling.choose_tokens`."""
    logits = _adjusted(logits, arrays, variant)
    best = logits.argmax(axis=-1).astype(np.int32)
    if not variant.draws:
        return best
    for row, temperature in enumerate(arrays["temperature"]):
        if temperature > 0:
            scaled = logits[row] / temperature
            weights = np.exp(scaled - scaled.max())
            kept = _kept(weights, int(arrays["top_k"][row]), float(arrays["top_p"][row]), float(arrays["min_p"][row]))
            running = np.cumsum(weights[kept], dtype=np.float64)
            chosen = np.searchsorted(running, np.float64(uniforms[row]) * running[-1], side="right")
            best[row] = kept[min(int(chosen), len(kept) - 1)]
    return best


def top_logprobs(logits: np.ndarray, token_ids: np.ndarray, num_top: int) -> tuple[np.ndarray, ...]:
    """As `gemcut.model.sampling.top_logprobs`."""
    peak = logits.max(axis=-1, keepdims=True)
    total = peak + np.log(np.exp(logits - peak).sum(axis=-1, keepdims=True, dtype=np.float64)).astype(np.float32)
    chosen = (np.take_along_axis(logits, token_ids[:, None].astype(np.int64), axis=1) - total)[:, 0]
    if not num_top:
        return (chosen,)
    best_ids = np.argpartition(-logits, num_top - 1, axis=-1)[:, :num_top]
    best = np.take_along_axis(logits, best_ids, axis=-1)
    order = np.argsort(-best, axis=-1, kind="stable")
    best_ids = np.take_along_axis(best_ids, order, axis=-1).astype(np.int32)
    return chosen, best_ids, np.take_along_axis(best, order, axis=-1) - total


def _adjusted(logits: np.ndarray, arrays: dict[str, np.ndarray], variant: SamplingVariant) -> np.ndarray:
    if variant.penalties:
        repetition = arrays["repetition"][:, None]
        penalised = np.where(logits > 0, logits / repetition, logits * repetition)
        logits = np.where(arrays["seen"], penalised, logits)
        logits = logits - arrays["presence"][:, None] * (arrays["counts"] > 0)
        logits = logits - arrays["frequency"][:, None] * arrays["counts"] + arrays["bias"]
    if variant.masked:
        logits = np.where(arrays["mask"], logits, -np.inf)
    return logits


def _kept(weights: np.ndarray, top_k: int, top_p: float, min_p: float) -> np.ndarray:
    """Ascending ids of the tokens that survive top-k, then top-p, then min-p; the largest weight is 1."""
    if top_k >= len(weights) and top_p >= 1.0:
        return np.flatnonzero(weights >= max(min_p, np.finfo(np.float32).tiny))
    ids = np.flatnonzero(weights >= CANDIDATE_SHARE)
    # The tokens left out hold less than V * 1e-9 of the best weight: a cut closer to everything needs them all.
    if len(ids) < top_k and 1.0 - top_p < len(weights) * CANDIDATE_SHARE:
        ids = np.flatnonzero(weights > 0)
    order = ids[np.argsort(-weights[ids], kind="stable")]
    sorted_weights = weights[order]
    if top_k < len(order):
        order = order[sorted_weights >= sorted_weights[top_k - 1]]  # ties with the k-th stay, as on the device
        sorted_weights = weights[order]
    if top_p < 1.0:
        running = np.cumsum(sorted_weights, dtype=np.float64)
        cut = int(np.searchsorted(running, top_p * running[-1], side="left"))
        threshold = sorted_weights[min(cut, len(order) - 1)]
        order = order[sorted_weights >= threshold]
    return np.sort(order[weights[order] >= min_p])
