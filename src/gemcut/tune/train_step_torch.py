"""Steps on PyTorch: eager, one block at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from keras.src.backend.torch.core import get_device
from torch.utils.checkpoint import checkpoint

from gemcut.model.leaf_ops import LeafOps
from gemcut.model.leaf_ops_torch import BackendOps
from gemcut.tune.forward import Recompute, Tree
from gemcut.tune.losses import LOWEST
from gemcut.tune.schedule import LearningRate
from gemcut.tune.step_program import GradientOps, PullBack, StepProgram, Tensors
from gemcut.tune.train_step import TrainStep

Tensor = Any


class TrainingOps(BackendOps):
    """Leaf operations, with an attention whose backward pass is quick on CPU."""

    def attention(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, softcap: float | None
    ) -> Tensor:
        # PyTorch's own kernel takes three times as long backward as plain products do (docs/tried.md).
        if queries.device.type == "cpu":
            return LeafOps.attention(self, queries, keys, values, mask, scale, softcap)
        return super().attention(queries, keys, values, mask, scale, softcap)


class BackendGradients(GradientOps):
    """PyTorch's ways, in place where nothing else needs the old values."""

    trained_chunk_rows = 256

    def leaf_ops(self) -> LeafOps:
        return TrainingOps()

    def recompute(self, what: str) -> Recompute:
        if what == "nothing":
            return lambda function: function
        return lambda function: (
            lambda *tensors: checkpoint(
                function, *tensors, use_reentrant=False, preserve_rng_state=False, determinism_check="none"
            )
        )

    def pull_back(
        self, function: Callable[[Tensors, Tensor], Tensor], trained: Tensors, x: Tensor, by_x: bool
    ) -> tuple[Tensor, PullBack]:
        leaves = {name: value.detach().requires_grad_() for name, value in trained.items()}
        x = x.detach().requires_grad_(by_x)
        with torch.enable_grad():
            value = function(leaves, x)

        def pull_back(gradient: Tensor) -> tuple[Tensors, Tensor]:
            value.backward(gradient)
            return {name: leaf.grad for name, leaf in leaves.items()}, x.grad

        return value.detach(), pull_back

    def exponentials(self, logits: Tensor, highest: Tensor) -> Tensor:
        return logits.sub_(highest).exp_()

    def hide_targets(self, logits: Tensor, columns: Tensor) -> Tensor:
        [rows] = torch.nonzero((columns >= 0) & (columns < logits.shape[1]), as_tuple=True)
        logits[rows, columns[rows].long()] = LOWEST
        return logits

    def add(self, total: Tensor, part: Tensor) -> Tensor:
        return total.add_(part)

    def add_rows(self, matrix: Tensor, ids: Tensor, rows: Tensor) -> Tensor:
        return matrix.index_add_(0, ids, rows)


class BackendTrainStep(TrainStep):
    """Steps on PyTorch."""

    is_compiled = False

    def __init__(self, program: StepProgram, frozen: Tree, learning_rate: LearningRate) -> None:
        super().__init__(program, _detached(frozen), learning_rate)

    def _tensor(self, value: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(value)).to(get_device())

    def _array(self, tensor: Tensor) -> np.ndarray:
        return np.array(tensor.detach().cpu().numpy())

    @torch.no_grad()
    def _summed(self, batches: list[dict[str, np.ndarray]], scale: float) -> tuple[Tensors, Tensor]:
        sums, losses = None, []
        for batch in batches:
            sums, loss = self.program.gradients(self.trained, sums, self.frozen, _tensors(batch), scale)
            losses.append(loss)
        assert sums is not None, "a step has at least one micro-batch"
        return sums, sum(losses)

    @torch.no_grad()
    def _update(self, gradients: Tensors, loss: Tensor, numbers: Mapping[str, float]) -> float:
        return float(self.program.update_in_turn(self.trained, self.slots, gradients, loss, numbers))

    @torch.no_grad()
    def _loss_of(self, batch: dict[str, np.ndarray]) -> float:
        return float(self.program.loss(self.trained, self.frozen, _tensors(batch)))


def _tensors(batch: dict[str, np.ndarray]) -> Tensors:
    return {name: torch.from_numpy(array).to(get_device()) for name, array in batch.items()}


def _detached(tree: Any) -> Any:
    """A tree of tensors without their claim to gradients."""
    if isinstance(tree, dict):
        return {name: _detached(value) for name, value in tree.items()}
    return [_detached(value) for value in tree] if isinstance(tree, list) else tree.detach()
