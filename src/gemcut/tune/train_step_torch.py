"""Steps on PyTorch: eager, one block at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from keras.src.backend.torch.core import get_device

from gemcut.model.leaf_ops import LeafOps
from gemcut.model.leaf_ops_torch import BackendOps
from gemcut.tune.forward import Recompute, Tree
from gemcut.tune.losses import LOWEST
from gemcut.tune.schedule import LearningRate
from gemcut.tune.step_program import GradientOps, PullBack, StepProgram, Tensors
from gemcut.tune.train_step import TrainStep

Tensor = Any


class TrainingOps(BackendOps):
    """Leaf operations, with an attention whose backward pass is quick on CPU, and less memory."""

    def add_linear(self, product: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        product.view(-1, product.shape[-1]).addmm_(x.reshape(-1, x.shape[-1]), weight.t())
        return product

    def attention(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, softcap: float | None
    ) -> Tensor:
        # PyTorch's own kernel takes three times as long backward as plain products do (docs/tried.md).
        if queries.device.type == "cpu":
            return LeafOps.attention(self, queries, keys, values, mask, scale, softcap)
        return super().attention(queries, keys, values, mask, scale, softcap)


class _Recomputed(torch.autograd.Function):
    """A function of tensors that backpropagation computes again.

    PyTorch's own checkpoint keeps a graph without its tensors. The many small pieces of that come to lie between a
    block's large tensors, and after those are freed too little is left in between for the next block's: the heap grows
    with every block (docs/tried.md). Here nothing stays but what the function is given.
    """

    @staticmethod
    def forward(context: Any, function: Callable[..., Tensor], *given: Tensor) -> Tensor:
        context.function = function
        context.save_for_backward(*given)
        return function(*given)

    @staticmethod
    def backward(context: Any, *d_out: Tensor) -> tuple[Tensor | None, ...]:
        wanted = context.needs_input_grad[1:]
        given = [
            value.detach().requires_grad_(needs) for value, needs in zip(context.saved_tensors, wanted, strict=True)
        ]
        with torch.enable_grad():
            out = context.function(*given)
        leaves = [value for value in given if value.requires_grad]
        gradients = iter(torch.autograd.grad(out, leaves, d_out))
        return None, *(next(gradients) if needs else None for needs in wanted)


class BackendGradients(GradientOps):
    """PyTorch's ways, in place where nothing else needs the old values."""

    trained_chunk_rows = 256

    def leaf_ops(self) -> LeafOps:
        return TrainingOps()

    def recompute(self, what: str) -> Recompute:
        if what == "nothing":
            return lambda function: function

        def recomputed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
            def block(frozen: Tensors, trained: Tensors, x: Tensor, *others: Tensor) -> Tensor:
                def of_tensors(x: Tensor, *values: Tensor) -> Tensor:
                    return function(frozen, dict(zip(trained, values, strict=True)), x, *others)

                return _Recomputed.apply(of_tensors, x, *trained.values())

            return block

        return recomputed

    def pull_back(
        self, function: Callable[[Tensors, Tensor], Tensor], trained: Tensors, x: Tensor, by_x: bool
    ) -> tuple[Tensor, PullBack]:
        leaves = {name: value.detach().requires_grad_() for name, value in trained.items()}
        x = x.detach().requires_grad_(by_x)
        with torch.enable_grad():
            value = function(leaves, x)

        def pull_back(gradient: Tensor, sums: Tensors) -> tuple[Tensors, Tensor]:
            for name, leaf in leaves.items():
                leaf.grad = sums.get(name)  # which autograd adds to in place
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
        # Made before all else of the step: in between, they would hold large freed pieces of the heap apart. Those of
        # embedding and head are as large as these themselves, and are there after the first micro-batch only.
        outer, losses = self.program.forward.method.outer_names, []
        sums = {name: torch.zeros_like(value) for name, value in self.trained.items() if name not in outer}
        for batch in batches:
            sums, loss = self.program.gradients(self.trained, sums, self.frozen, _tensors(batch), scale)
            losses.append(loss)
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
