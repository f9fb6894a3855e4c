"""Steps on TensorFlow: with what is trained in variables that are changed in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops  # the barrier has no public name

from gemcut.tune.batches import Batch
from gemcut.tune.forward import Recompute, Tree
from gemcut.tune.losses import LOWEST
from gemcut.tune.schedule import LearningRate
from gemcut.tune.step_program import GradientOps, PullBack, StepProgram, Tensors
from gemcut.tune.train_step import TrainStep

Tensor = Any


class BackendGradients(GradientOps):
    """TensorFlow's ways."""

    def recompute(self, what: str) -> Recompute:
        return (lambda function: function) if what == "nothing" else _recomputed

    def pull_back(
        self, function: Callable[[Tensors, Tensor], Tensor], trained: Tensors, x: Tensor, by_x: bool
    ) -> tuple[Tensor, PullBack]:
        watched = [*trained.values(), *([x] if by_x else [])]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            value = function(trained, x)

        def pull_back(gradient: Tensor, sums: Tensors) -> tuple[Tensors, Tensor]:
            gradients = tape.gradient(value, watched, output_gradients=gradient)
            return self.added(sums, dict(zip(trained, gradients, strict=False))), gradients[-1]

        return value, pull_back

    def hide_targets(self, logits: Tensor, columns: Tensor) -> Tensor:
        if logits.shape[0] is not None:  # XLA may compile this, which cannot know how many targets are in these columns
            return super().hide_targets(logits, columns)
        rows = tf.where((columns >= 0) & (columns < logits.shape[1]))  # (some, 1)
        places = tf.concat([rows, tf.cast(tf.gather(columns, rows), rows.dtype)], axis=1)
        return tf.tensor_scatter_nd_update(logits, places, tf.fill(tf.shape(rows)[:1], LOWEST))

    def add_rows(self, matrix: Tensor, ids: Tensor, rows: Tensor) -> Tensor:
        return tf.tensor_scatter_nd_add(matrix, ids[:, None], rows)


class BackendTrainStep(TrainStep):
    """Steps on TensorFlow, compiled by XLA where that is faster.

    On CPUs XLA multiplies bfloat16 no faster than float32, TensorFlow's own kernels twice as fast (docs/tried.md).
    Their shapes need not be known before, so of a micro-batch's rows only those with a target go to a frozen head.
    """

    def __init__(self, program: StepProgram, frozen: Tree, learning_rate: LearningRate) -> None:
        self._takes_filled_rows = not (uses_xla(program.forward.dtype) or program.forward.method.outer_names)
        if program.forward.dtype == "float32":
            tf.config.experimental.enable_tensor_float_32_execution(False)
        super().__init__(program, tf.nest.map_structure(tf.convert_to_tensor, frozen), learning_rate)
        settings = {"jit_compile": uses_xla(program.forward.dtype), "autograph": False}
        self._add_gradients = tf.function(self._gradients_added, **settings)
        self._apply = tf.function(self._applied, jit_compile=True, autograph=False)
        self._evaluate = tf.function(self._loss_evaluated, **settings)

    def _tensor(self, value: np.ndarray) -> Tensor:
        return tf.Variable(value, trainable=False)

    def _array(self, tensor: Tensor) -> np.ndarray:
        return np.array(tensor.numpy())

    def _arrays(self, batch: Batch) -> dict[str, np.ndarray]:
        arrays = super()._arrays(batch)
        if self._takes_filled_rows:
            del arrays["num_chunks"]
            arrays["num_rows"] = np.asarray(max(1, batch.num_targets), np.int32)
        return arrays

    def _gradients_added(
        self, trained: Tensors, sums: Tensors, frozen: Tree, batch: Tensors, scale: Tensor
    ) -> tuple[Tensors, Tensor]:
        return self.program.gradients(trained, sums, frozen, _filled(batch), scale)

    def _loss_evaluated(self, trained: Tensors, frozen: Tree, batch: Tensors) -> Tensor:
        return self.program.loss(trained, frozen, _filled(batch))

    def _summed(self, batches: list[dict[str, np.ndarray]], scale: float) -> tuple[Tensors, Tensor]:
        trained, factor = _values(self.trained), tf.constant(scale, tf.float32)
        # Zeros instead of nothing: one program serves the first micro-batch and the others.
        sums = {name: tf.zeros(value.shape, value.dtype) for name, value in trained.items()}
        losses = []
        for batch in batches:
            sums, loss = self._add_gradients(trained, sums, self.frozen, _values(batch), factor)
            losses.append(loss)
        return sums, tf.add_n(losses)

    def _update(self, gradients: Tensors, loss: Tensor, numbers: Mapping[str, float]) -> float:
        rounded = {name: tf.constant(number, tf.float32) for name, number in numbers.items()}
        return float(self._apply(gradients, loss, rounded))

    def _loss_of(self, batch: dict[str, np.ndarray]) -> float:
        return float(self._evaluate(_values(self.trained), self.frozen, _values(batch)))

    def _applied(self, gradients: Tensors, loss: Tensor, numbers: Tensors) -> Tensor:
        """Put into the variables what `StepProgram.update` makes of them."""
        slots = {name: _values(kept) for name, kept in self.slots.items()}
        trained, slots, norm = self.program.update(_values(self.trained), slots, gradients, loss, numbers)
        for name, value in trained.items():
            self.trained[name].assign(value)
            for slot, kept in slots[name].items():
                self.slots[name][slot].assign(kept)
        return norm

    def load_state(self, state: Any) -> None:
        self.step = state.step
        for name, value in state.trained.items():
            self.trained[name].assign(value)
            for slot, kept in state.slots[name].items():
                self.slots[name][slot].assign(kept)


def uses_xla(dtype: str) -> bool:
    """Whether steps in a compute type are compiled by XLA here."""
    return dtype != "bfloat16" or bool(tf.config.list_logical_devices("GPU"))


def _filled(batch: Tensors) -> Tensors:
    """A batch whose rows are cut at "num_rows", where it has that."""
    if "num_rows" not in batch:
        return batch
    count = batch["num_rows"]
    return batch | {name: batch[name][:count] for name in ("rows", "ids")}


def _values(tensors: Mapping[str, Any]) -> Tensors:
    return {name: tf.convert_to_tensor(value) for name, value in tensors.items()}


def _recomputed(function: Any) -> Any:
    """A block (frozen, trained, x, ...) that backpropagation computes again.

    `tf.recompute_grad` is not enough: XLA sees that both computations are the same and keeps the first one's results.
    A barrier that waits for the gradient hides it; and the frozen weights, which need no gradient, stay outside.
    Without XLA, TensorFlow's own optimiser sees it too, and an identity of all together hides it.
    """

    def call(frozen: Tensors, trained: Tensors, x: Tensor, *others: Tensor) -> Tensor:
        names = sorted(trained)

        @tf.custom_gradient
        def block(x: Tensor, *values: Tensor) -> tuple[Tensor, Any]:
            def gradient(d_out: Tensor) -> list[Tensor]:
                barrier = gen_xla_ops.xla_optimization_barrier if uses_xla(x.dtype.name) else tf.identity_n
                again_x, d_out, *again = barrier([x, d_out, *values])
                with tf.GradientTape() as tape:
                    tape.watch([again_x, *again])
                    out = function(frozen, dict(zip(names, again, strict=True)), again_x, *others)
                gradients: list[Tensor] = tape.gradient(out, [again_x, *again], output_gradients=d_out)
                return gradients

            return function(frozen, dict(zip(names, values, strict=True)), x, *others), gradient

        return block(x, *(trained[name] for name in names))

    return call
