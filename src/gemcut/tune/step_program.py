"""The arithmetic of a training step as pure functions, the same on every backend, for each to compile."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from keras import ops

from gemcut.model.backend_ops import leaf_ops
from gemcut.model.leaf_ops import LeafOps
from gemcut.tune.forward import Forward, Recompute, Tree
from gemcut.tune.losses import HeadOps, VocabularyShare, frozen_head_loss, trained_head_loss
from gemcut.tune.optimizers import Optimizer, Slots, clip_factor, global_norm

Tensor = Any
Tensors = dict[str, Tensor]
PullBack = Callable[[Tensor, Tensors], tuple[Tensors, Tensor]]


class GradientOps(HeadOps, abc.ABC):
    """What each backend has its own way for in a training step."""

    def leaf_ops(self) -> LeafOps:
        """The leaf operations of the forward pass."""
        return leaf_ops()

    @abc.abstractmethod
    def recompute(self, what: str) -> Recompute:
        """How blocks are rematerialised: "blocks", "cheap" or "nothing", as `recipe.Recipe.recompute` says."""

    @abc.abstractmethod
    def pull_back(
        self, function: Callable[[Tensors, Tensor], Tensor], trained: Tensors, x: Tensor, by_x: bool
    ) -> tuple[Tensor, PullBack]:
        """The function's value, and what leads from a gradient by that to those by `trained` and, where `by_x`, by `x`.

        That takes sums too, of other gradients by `trained`, which it adds these to; their storage may be reused, and
        what is missing there begins at zero.
        """

    def added(self, sums: Tensors, gradients: Tensors) -> Tensors:
        """The gradients, each with the sum of its name where there is one; the storage of sums may be reused."""
        return {name: self.add(sums[name], part) if name in sums else part for name, part in gradients.items()}


@dataclasses.dataclass(frozen=True)
class StepProgram:
    """A step.

    Attributes:
        forward: The forward pass.
        optimizer: How tensors change.
        clip_norm: Limit of the gradients' global norm; None for none.
        backend: What the backend does its own way.
    """

    forward: Forward
    optimizer: Optimizer
    clip_norm: float | None
    backend: GradientOps

    def gradients(
        self, trained: Tensors, sums: Tensors, frozen: Tree, batch: Tensors, scale: Tensor
    ) -> tuple[Tensors, Tensor]:
        """The gradients of a micro-batch, and its loss.

        Args:
            trained: What is trained.
            sums: Gradients of earlier micro-batches, which these are added to, by name; a name may be missing.
            frozen: What is not.
            batch: token_ids, positions, segments (B, T); rows, ids (P,) as in `LearntRows`; where shapes are compiled
                also num_chunks (), as in `frozen_head_loss`.
            scale: What each target's gradient is multiplied by.

        Returns:
            Gradients by name, and the summed loss, which is not scaled.
        """
        forward, outer = self.forward, self.forward.method.outer_names
        inner = {name: value for name, value in trained.items() if name not in outer}

        def hidden_of(inner: Tensors, x: Tensor) -> Tensor:
            return forward.hidden(frozen, inner, x, batch["positions"], batch["segments"], batch["rows"])

        x = forward.embedded(frozen, trained, batch["token_ids"])
        hidden, pull_back = self.backend.pull_back(hidden_of, inner, x, bool(outer))
        loss, d_hidden, *d_head = self._head_loss(hidden, frozen, trained, batch)
        gradients, d_x = pull_back(ops.cast(d_hidden * scale, hidden.dtype), sums)
        if outer:
            gradients |= self.backend.added(sums, self._outer_gradients(d_head[0] * scale, d_x, batch["token_ids"]))
        return gradients, loss

    def loss(self, trained: Tensors, frozen: Tree, batch: Tensors) -> Tensor:
        """The summed loss of a micro-batch; arguments as of `gradients`."""
        x = self.forward.embedded(frozen, trained, batch["token_ids"])
        hidden = self.forward.hidden(frozen, trained, x, batch["positions"], batch["segments"], batch["rows"])
        return self._head_loss(hidden, frozen, trained, batch, with_gradient=False)[0]

    def update(
        self,
        trained: Tensors,
        slots: dict[str, Slots],
        gradients: Tensors,
        loss: Tensor,
        numbers: Mapping[str, Tensor],
    ) -> tuple[Tensors, dict[str, Slots], Tensor]:
        """What is trained and what the optimiser keeps after a step, and the gradients' global norm.

        Where loss or norm is no number, everything stays as it was.
        """
        norm = global_norm(gradients)
        is_finite = ops.isfinite(norm + loss)
        factor = clip_factor(norm, self.clip_norm)
        new_trained, new_slots = {}, {}
        for name in sorted(trained):
            old, kept = trained[name], slots[name]
            new, new_kept = self.optimizer.update(old, gradients[name] * factor, kept, numbers)
            new_trained[name] = ops.where(is_finite, new, old)
            new_slots[name] = {slot: ops.where(is_finite, value, kept[slot]) for slot, value in new_kept.items()}
        return new_trained, new_slots, norm

    def update_in_turn(
        self,
        trained: Tensors,
        slots: dict[str, Slots],
        gradients: Tensors,
        loss: Tensor,
        numbers: Mapping[str, float],
    ) -> Tensor:
        """`update` without a compiler: each tensor replaces the old one in its mapping before the next is computed."""
        norm = global_norm(gradients)
        factor = clip_factor(norm, self.clip_norm)
        if math.isfinite(float(norm + loss)):
            for name in sorted(trained):
                gradient = gradients.pop(name) * factor
                trained[name], slots[name] = self.optimizer.update(trained[name], gradient, slots[name], numbers)
        return norm

    def _head_loss(
        self,
        hidden: Tensor,
        frozen: Tree,
        trained: Mapping[str, Tensor],
        batch: Tensors,
        *,
        with_gradient: bool = True,
        share: VocabularyShare | None = None,
    ) -> tuple[Tensor, ...]:
        """The summed loss, its gradient by the hidden states and, where it is trained, by the output head."""
        forward = self.forward
        head = ops.cast(forward.method.outer_weight("head", frozen, trained), forward.dtype)
        arguments = hidden, head, batch["ids"], forward.config.final_logit_softcapping, forward.leaf, self.backend
        chunks = batch.get("num_chunks")
        if with_gradient and forward.method.outer_names:
            return trained_head_loss(*arguments, num_chunks=chunks, share=share)
        return frozen_head_loss(*arguments, with_gradient=with_gradient, num_chunks=chunks, share=share)

    def _outer_gradients(self, d_head: Tensor, d_x: Tensor, token_ids: Tensor) -> Tensors:
        """Gradients of embedding and head; one where they are the same matrix."""
        [embedding, *others] = self.forward.method.outer_names
        d_rows = self.forward.embedding_gradient(d_x)
        d_rows = ops.reshape(d_rows, (-1, d_rows.shape[-1]))
        start = ops.zeros_like(d_head) if others else d_head
        gradients = {embedding: self.backend.add_rows(start, ops.reshape(token_ids, (-1,)), d_rows)}
        return gradients | dict.fromkeys(others, d_head)
