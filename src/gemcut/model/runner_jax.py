"""Running the decoder on JAX: compiled steps with donated caches, bursts of tokens in one call."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from gemcut.machine import usable_cores
from gemcut.model.backend_ops import leaf_ops
from gemcut.model.decoder import Decoder
from gemcut.model.runner_xla import MAX_BURST, BurstProgram, empty_layers, padded_stop_ids
from gemcut.model.sampling import SamplingVariant
from gemcut.model.steps import DecoderSteps, Layers

Tensor = Any


class Runner:
    """The steps of one decoder on JAX's default device; arrays come in as NumPy and stay on the device inside."""

    max_burst = MAX_BURST

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.device = jax.devices()[0].platform
        self.num_threads = int(os.environ.get("NPROC", usable_cores()))
        steps = DecoderSteps(decoder.config, leaf_ops(), decoder.compute_dtype)
        program = BurstProgram(steps)
        self._prefill = jax.jit(steps.prefill, static_argnames="fresh", donate_argnums=1)
        self._first = jax.jit(program.first, static_argnames="variant")
        self._burst = jax.jit(program.burst, static_argnames="variant", donate_argnums=1)
        self._score_rows = jax.jit(program.score_rows)
        self._logit_rows = jax.jit(program.logit_rows)
        self._tree = decoder.tree()

    def new_layers(self, batch: int, capacity: int) -> Layers:
        """An empty cache."""
        return empty_layers(self.decoder, batch, capacity)

    def no_hidden(self, batch: int) -> Tensor:
        """(B, D) zeros: the last hidden states before any prefill."""
        return jax.numpy.zeros((batch, self.decoder.config.hidden_size), self.decoder.compute_dtype)

    def prefill(
        self, layers: Layers, token_ids: np.ndarray, starts: np.ndarray, counts: np.ndarray, previous: Tensor
    ) -> tuple[Layers, Tensor, Tensor]:
        """See `DecoderSteps.prefill`."""
        with self._precision():
            fresh = not starts.any()
            return self._prefill(self._tree, layers, token_ids, starts, counts, previous, fresh=fresh)

    def first(
        self, hidden: Tensor, arrays: dict[str, np.ndarray], uniforms: np.ndarray, variant: SamplingVariant
    ) -> list[np.ndarray]:
        """See `BurstProgram.first`."""
        with self._precision():
            return [np.asarray(out) for out in self._first(self._tree, hidden, arrays, uniforms, variant=variant)]

    def burst(
        self,
        layers: Layers,
        token_ids: np.ndarray,
        lengths: np.ndarray,
        uniforms: np.ndarray,
        stop_ids: tuple[int, ...],
        arrays: dict[str, np.ndarray],
        variant: SamplingVariant,
    ) -> tuple[Layers, list[np.ndarray]]:
        """Up to as many tokens as `uniforms` (B, n <= max_burst) has columns; see `BurstProgram.burst`."""
        limit = uniforms.shape[1]
        padded = np.zeros((len(token_ids), MAX_BURST), np.float32)
        padded[:, :limit] = uniforms
        stops = padded_stop_ids(stop_ids)
        with self._precision():
            layers, made, *outputs = self._burst(
                self._tree, layers, token_ids, lengths, np.int32(limit), padded, stops, arrays, variant=variant
            )
        return layers, [np.asarray(output)[:, : int(made)] for output in outputs]

    def score_rows(self, hidden: Tensor, rows: np.ndarray, targets: np.ndarray) -> list[np.ndarray]:
        """See `BurstProgram.score_rows`; `hidden` is (B, T, D)."""
        with self._precision():
            flat = hidden.reshape(-1, hidden.shape[-1])
            return [np.asarray(output) for output in self._score_rows(self._tree, flat, rows, targets)]

    def logit_rows(self, hidden: Tensor, rows: np.ndarray) -> np.ndarray:
        """See `BurstProgram.logit_rows`; `hidden` is (B, T, D)."""
        with self._precision():
            return np.asarray(self._logit_rows(self._tree, hidden.reshape(-1, hidden.shape[-1]), rows))

    def free_bytes(self) -> int | None:
        """Memory that the device has left; None where it does not tell."""
        told = jax.devices()[0].memory_stats() or {}
        return told["bytes_limit"] - told["bytes_in_use"] if {"bytes_limit", "bytes_in_use"} <= told.keys() else None

    def wait(self, tensor: Tensor) -> None:
        """Return once `tensor` is computed."""
        tensor.block_until_ready()

    def to_numpy(self, tensor: Tensor) -> np.ndarray:
        """float32 copy on the host."""
        return np.asarray(tensor.astype(np.float32))

    def num_compiled(self) -> int:
        """Programs compiled so far."""
        functions = (self._prefill, self._first, self._burst, self._score_rows, self._logit_rows)
        return sum(function._cache_size() for function in functions)

    @contextlib.contextmanager
    def _precision(self) -> Iterator[None]:
        """float32 means float32, on accelerators too."""
        with jax.default_matmul_precision("highest" if self.decoder.compute_dtype == "float32" else "default"):
            yield
