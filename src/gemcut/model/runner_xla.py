"""Running the decoder's steps through XLA: shared by JAX and TensorFlow.

One compiled function for each shape: prefill by (rows, tokens, capacity, fresh), bursts by
(rows, capacity, sampling variant), row scoring by one fixed number of rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from gemcut.model.decoder import Decoder
from gemcut.model.sampling import SamplingVariant, choose_tokens, top_logprobs
from gemcut.model.steps import DecoderSteps, Layers, Tree, num_slots

Tensor = Any
MAX_BURST = 32  # tokens one burst may produce
MAX_STOP_IDS = 16  # stop ids that end a burst early; further ones only end it on the host


class BurstProgram:
    """The pure functions that XLA compiles."""

    def __init__(self, steps: DecoderSteps) -> None:
        self.steps = steps

    def first(
        self, tree: Tree, hidden: Tensor, arrays: dict[str, Tensor], uniforms: Tensor, variant: SamplingVariant
    ) -> tuple[Tensor, ...]:
        """Token ids (B,) chosen from the last hidden states (B, D), then log-probabilities if asked for."""
        return self._choose(self.steps.logits(tree, hidden), arrays, uniforms, variant)

    def burst(
        self,
        tree: Tree,
        layers: Layers,
        token_ids: Tensor,
        lengths: Tensor,
        limit: Tensor,
        uniforms: Tensor,
        stop_ids: Tensor,
        arrays: dict[str, Tensor],
        variant: SamplingVariant,
    ) -> tuple[Any, ...]:
        """Up to `limit` tokens for each sequence.

        Args:
            tree, layers: Weights and cache.
            token_ids: int32 (B,), chosen but not yet in the cache.
            lengths: int32 (B,).
            limit: int32 scalar, from 1 to MAX_BURST.
            uniforms: float32 (B, MAX_BURST).
            stop_ids: int32 (MAX_STOP_IDS,), padded with -1: the burst ends once each row has produced one.
            arrays, variant: How tokens are chosen.

        Returns:
            The cache, the number of tokens made (scalar), ids (B, MAX_BURST), and, if asked for,
            log-probabilities (B, MAX_BURST), top ids and top log-probabilities (B, MAX_BURST, k).
        """
        batch = token_ids.shape[0]
        outputs = self._empty_outputs(batch, variant)
        state = {
            "made": ops.zeros((), dtype="int32"),
            "token_ids": token_ids,
            "lengths": lengths,
            "stopped": ops.zeros((batch,), dtype="bool"),
            "layers": layers,
            "outputs": outputs,
        }
        if variant.penalties:
            state |= {"seen": arrays["seen"], "counts": arrays["counts"]}
        keys = list(state)

        # Outside the loop: XLA would compute sine and cosine anew for every layer that uses them.
        ahead = self.steps.rope_tables(lengths[:, None] + ops.arange(MAX_BURST, dtype="int32")[None, :])

        def goes_on(*values: Any) -> Tensor:
            now = dict(zip(keys, values, strict=True))
            return ops.logical_and(now["made"] < limit, ops.logical_not(ops.all(now["stopped"])))

        def advance(*values: Any) -> tuple[Any, ...]:
            now = dict(zip(keys, values, strict=True))
            tables = {
                kind: (ops.take(cos, now["made"][None], axis=2), ops.take(sin, now["made"][None], axis=2))
                for kind, (cos, sin) in ahead.items()
            }
            now["layers"], hidden = self.steps.step(
                tree, now["layers"], now["token_ids"], now["lengths"], tables=tables
            )
            current = arrays | {name: now[name] for name in ("seen", "counts") if name in now}
            uniform = ops.take(uniforms, now["made"], axis=1)
            chosen, *rest = self._choose(self.steps.logits(tree, hidden), current, uniform, variant)
            if variant.penalties:
                hit = ops.one_hot(chosen, arrays["seen"].shape[1], dtype="float32")  # (B, V)
                now["seen"] = ops.logical_or(now["seen"], hit > 0)
                now["counts"] = now["counts"] + hit
            now["outputs"] = [
                _write_column(array, value, now["made"])
                for array, value in zip(now["outputs"], [chosen, *rest], strict=True)
            ]
            ended = ops.any(chosen[:, None] == stop_ids[None, :], axis=1)
            now |= {
                "made": now["made"] + 1,
                "token_ids": chosen,
                "lengths": now["lengths"] + 1,
                "stopped": ops.logical_or(now["stopped"], ended),
            }
            return tuple(now[key] for key in keys)

        final = dict(zip(keys, ops.while_loop(goes_on, advance, tuple(state.values())), strict=True))
        return final["layers"], final["made"], *final["outputs"]

    def score_rows(self, tree: Tree, hidden: Tensor, rows: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """`DecoderSteps.score` of each target (R,) after row `rows` (R,) of hidden states (B * T, D)."""
        return self.steps.score(tree, ops.take(hidden, rows, axis=0), targets)

    def logit_rows(self, tree: Tree, hidden: Tensor, rows: Tensor) -> Tensor:
        """float32 (R, V) logits after rows (R,) of hidden states (B * T, D)."""
        return self.steps.logits(tree, ops.take(hidden, rows, axis=0))

    def _choose(
        self, logits: Tensor, arrays: dict[str, Tensor], uniforms: Tensor, variant: SamplingVariant
    ) -> tuple[Tensor, ...]:
        chosen = choose_tokens(logits, arrays, uniforms, variant)
        if variant.num_top_logprobs is None:
            return (chosen,)
        return chosen, *top_logprobs(logits, chosen, variant.num_top_logprobs)

    def _empty_outputs(self, batch: int, variant: SamplingVariant) -> list[Tensor]:
        outputs = [ops.zeros((batch, MAX_BURST), dtype="int32")]
        if variant.num_top_logprobs is not None:
            outputs.append(ops.zeros((batch, MAX_BURST), dtype="float32"))
        if variant.num_top_logprobs:
            shape = (batch, MAX_BURST, variant.num_top_logprobs)
            outputs += [ops.zeros(shape, dtype="int32"), ops.zeros(shape, dtype="float32")]
        return outputs


def empty_layers(decoder: Decoder, batch: int, capacity: int) -> Layers:
    """Zeroed caches of every layer."""
    config = decoder.config
    layers = []
    for index in range(config.num_hidden_layers):
        shape = (batch, config.num_key_value_heads, num_slots(config, index, capacity), config.head_dim)
        layers.append(tuple(ops.zeros(shape, dtype=decoder.compute_dtype) for _ in range(2)))
    return layers


def padded_stop_ids(stop_ids: tuple[int, ...]) -> np.ndarray:
    """int32 (MAX_STOP_IDS,), -1 where unused."""
    padded = np.full(MAX_STOP_IDS, -1, np.int32)
    first = stop_ids[:MAX_STOP_IDS]
    padded[: len(first)] = first
    return padded


def _write_column(array: Tensor, value: Tensor, column: Tensor) -> Tensor:
    """`array` (B, M, ...) with column `column` replaced by `value` (B, ...)."""
    start = (0, column) + (0,) * (len(array.shape) - 2)
    return ops.slice_update(array, start, ops.cast(value[:, None], array.dtype))
