"""Running the decoder on TensorFlow: steps compiled by XLA."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from gemcut.machine import usable_cores
from gemcut.model.backend_ops import leaf_ops
from gemcut.model.decoder import Decoder
from gemcut.model.runner_xla import MAX_BURST, BurstProgram, empty_layers, padded_stop_ids
from gemcut.model.sampling import SamplingVariant
from gemcut.model.steps import DecoderSteps, Layers

Tensor = Any


class Runner:
    """The steps of one decoder on TensorFlow's default device; same calls as the JAX runner."""

    max_burst = MAX_BURST

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.device = "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
        self.num_threads = tf.config.threading.get_intra_op_parallelism_threads() or usable_cores()
        if decoder.compute_dtype == "float32":
            tf.config.experimental.enable_tensor_float_32_execution(False)
        self._steps = DecoderSteps(decoder.config, leaf_ops(), decoder.compute_dtype)
        self._program = BurstProgram(self._steps)
        self._functions: dict[Any, Any] = {}

    def new_layers(self, batch: int, capacity: int) -> Layers:
        """An empty cache."""
        return empty_layers(self.decoder, batch, capacity)

    def no_hidden(self, batch: int) -> Tensor:
        """(B, D) zeros: the last hidden states before any prefill."""
        return tf.zeros((batch, self.decoder.config.hidden_size), self.decoder.compute_dtype)

    def prefill(
        self, layers: Layers, token_ids: np.ndarray, starts: np.ndarray, counts: np.ndarray, previous: Tensor
    ) -> tuple[Layers, Tensor, Tensor]:
        """See `DecoderSteps.prefill`."""
        fresh = not starts.any()
        return self._run("prefill", self._steps.prefill, layers, token_ids, starts, counts, previous, fresh=fresh)

    def first(
        self, hidden: Tensor, arrays: dict[str, np.ndarray], uniforms: np.ndarray, variant: SamplingVariant
    ) -> list[np.ndarray]:
        """See `BurstProgram.first`."""
        outputs = self._run("first", self._program.first, hidden, arrays, uniforms, variant=variant)
        return [output.numpy() for output in outputs]

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
        inputs = (token_ids, lengths, np.int32(limit), padded, padded_stop_ids(stop_ids), arrays)
        layers, made, *outputs = self._run("burst", self._program.burst, layers, *inputs, variant=variant)
        return layers, [output.numpy()[:, : int(made)] for output in outputs]

    def score_rows(self, hidden: Tensor, rows: np.ndarray, targets: np.ndarray) -> list[np.ndarray]:
        """See `BurstProgram.score_rows`; `hidden` is (B, T, D)."""
        flat = tf.reshape(hidden, (-1, hidden.shape[-1]))
        return [output.numpy() for output in self._run("score_rows", self._program.score_rows, flat, rows, targets)]

    def logit_rows(self, hidden: Tensor, rows: np.ndarray) -> np.ndarray:
        """See `BurstProgram.logit_rows`; `hidden` is (B, T, D)."""
        flat = tf.reshape(hidden, (-1, hidden.shape[-1]))
        return self._run("logit_rows", self._program.logit_rows, flat, rows).numpy()

    def free_bytes(self) -> int | None:
        """Memory that the device has left; TensorFlow does not tell."""
        return None

    def wait(self, tensor: Tensor) -> None:
        """Return once `tensor` is computed."""
        tensor[:1, :1].numpy()

    def to_numpy(self, tensor: Tensor) -> np.ndarray:
        """float32 copy on the host."""
        return tf.cast(tensor, tf.float32).numpy()

    def num_compiled(self) -> int:
        """Programs compiled so far."""
        return len(self._functions)

    def _run(self, name: str, function: Any, *arguments: Any, **static: Any) -> Any:
        """The function's result, compiled by XLA with its weights captured, once for each shape and static argument."""
        arguments = tf.nest.map_structure(tf.convert_to_tensor, arguments)
        shapes = tuple(tuple(tensor.shape) for tensor in tf.nest.flatten(arguments))
        key = (name, shapes, *sorted(static.items()))
        if key not in self._functions:
            bound = functools.partial(function, **static)

            def with_weights(*tensors: Any) -> Any:
                return bound(self.decoder.tree(), *tensors)

            self._functions[key] = tf.function(with_weights, jit_compile=True, autograph=False)
        return self._functions[key](*arguments)
