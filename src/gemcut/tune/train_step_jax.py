"""Steps on JAX: one compiled program for the gradients of a micro-batch, and one for the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemcut.tune.forward import Recompute, Tree
from gemcut.tune.schedule import LearningRate
from gemcut.tune.step_program import GradientOps, PullBack, StepProgram, Tensors
from gemcut.tune.train_step import TrainStep

Tensor = Any


class BackendGradients(GradientOps):
    """JAX's ways."""

    def recompute(self, what: str) -> Recompute:
        if what == "nothing":
            return lambda function: function
        policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if what == "cheap" else None
        return lambda function: jax.checkpoint(function, policy=policy)

    def pull_back(
        self, function: Callable[[Tensors, Tensor], Tensor], trained: Tensors, x: Tensor, by_x: bool
    ) -> tuple[Tensor, PullBack]:
        value, from_value = jax.vjp(function, trained, x)

        def pull_back(gradient: Tensor, sums: Tensors) -> tuple[Tensors, Tensor]:
            gradients, d_x = from_value(gradient)
            return self.added(sums, gradients), d_x

        return value, pull_back

    def add_rows(self, matrix: Tensor, ids: Tensor, rows: Tensor) -> Tensor:
        return matrix.at[ids].add(rows)


class BackendTrainStep(TrainStep):
    """Steps on JAX; what they replace is given back to the programs, so nothing is held twice."""

    def __init__(self, program: StepProgram, frozen: Tree, learning_rate: LearningRate) -> None:
        super().__init__(program, frozen, learning_rate)
        self._add_gradients = jax.jit(program.gradients, donate_argnums=1)
        self._apply = jax.jit(program.update, donate_argnums=(0, 1))
        self._evaluate = jax.jit(program.loss)

    def _tensor(self, value: np.ndarray) -> Tensor:
        return jnp.array(value)

    def _array(self, tensor: Tensor) -> np.ndarray:
        return np.array(tensor)

    def _summed(self, batches: list[dict[str, np.ndarray]], scale: float) -> tuple[Tensors, Tensor]:
        # Zeros instead of nothing: one program serves the first micro-batch and the others.
        sums = {name: jnp.zeros(value.shape, value.dtype) for name, value in self.trained.items()}
        losses = []
        for batch in batches:
            sums, loss = self._add_gradients(self.trained, sums, self.frozen, batch, np.float32(scale))
            losses.append(loss)
        return sums, sum(losses)

    def _update(self, gradients: Tensors, loss: Tensor, numbers: Mapping[str, float]) -> float:
        rounded = {name: np.float32(number) for name, number in numbers.items()}
        self.trained, self.slots, norm = self._apply(self.trained, self.slots, gradients, loss, rounded)
        return float(norm)

    def _loss_of(self, batch: dict[str, np.ndarray]) -> float:
        return float(self._evaluate(self.trained, self.frozen, batch))
