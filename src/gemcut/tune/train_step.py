"""One step of training: what all backends share, and the seam that the trainer sees."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import numpy as np

from gemcut.tune.batches import Batch, Step
from gemcut.tune.forward import Tree
from gemcut.tune.losses import ROW_CHUNK, LearntRows
from gemcut.tune.schedule import LearningRate
from gemcut.tune.step_program import StepProgram, Tensors
from gemcut.tune.train_state import StepResult, TrainState

Tensor = Any


class TrainStep(abc.ABC):
    """Takes steps on one backend, and holds what they change.

    Args:
        program: The arithmetic.
        frozen: Tensors that are not trained, as `Decoder.tree()` has them.
        learning_rate: Of each step.
    """

    is_compiled = True

    def __init__(self, program: StepProgram, frozen: Tree, learning_rate: LearningRate) -> None:
        self.program, self.frozen, self.learning_rate = program, frozen, learning_rate
        self.step = 0
        self.trained = {name: self._placed(name, value) for name, value in program.forward.method.initial()}
        self.slots = {
            name: {
                slot: self._placed(name, np.zeros(shape, np.float32))
                for slot, shape in program.optimizer.slots(tuple(value.shape)).items()
            }
            for name, value in self.trained.items()
        }

    def run(self, step: Step) -> StepResult:
        """Learn from the micro-batches of a step, which count as one large batch."""
        num_targets = sum(batch.num_targets for batch in step)
        rate = self.learning_rate.at(self.step)
        gradients, loss = self._gradients(step)
        norm = self._update(gradients, loss, self.program.optimizer.numbers(self.step, rate))
        result = StepResult(float(loss) / max(1, num_targets), num_targets, norm, rate)
        self.step += result.is_finite
        return result

    def gradients(self, step: Step) -> dict[str, np.ndarray]:
        """The gradients of a step's mean loss by all that is trained, before clipping; nothing is changed."""
        gradients, _ = self._gradients(step)
        return {name: self._array(value) for name, value in gradients.items()}

    def loss(self, batch: Batch) -> tuple[float, int]:
        """Summed negative log-probability of a batch's targets, in nats, and their number."""
        return self._loss_of(self._arrays(batch)), batch.num_targets

    def state(self) -> TrainState:
        """All that changes, copied."""
        trained = {name: self._array(value) for name, value in self.trained.items()}
        slots = {name: {slot: self._array(value) for slot, value in kept.items()} for name, kept in self.slots.items()}
        return TrainState(self.step, trained, slots)

    def load_state(self, state: TrainState) -> None:
        """Go on from where `state` was taken; names and shapes are those of this run."""
        self.step = state.step
        for name in list(self.trained):
            self.trained[name] = self._placed(name, state.trained[name])
            self.slots[name] = {slot: self._placed(name, value) for slot, value in state.slots[name].items()}

    def _gradients(self, step: Step) -> tuple[Tensors, Tensor]:
        """Gradients of the mean loss of a step, and the summed loss."""
        num_targets = sum(batch.num_targets for batch in step)
        return self._summed([self._arrays(batch) for batch in step], 1.0 / max(1, num_targets))

    def _arrays(self, batch: Batch) -> dict[str, np.ndarray]:
        """What the compiled functions take of a batch."""
        learnt = LearntRows.of(batch.targets, ROW_CHUNK if self.is_compiled else None)
        arrays = {name: getattr(batch, name) for name in ("token_ids", "positions", "segments")}
        arrays |= {"rows": learnt.rows, "ids": learnt.ids}
        if self.is_compiled:
            arrays["num_chunks"] = np.int32(-(-learnt.num_targets // ROW_CHUNK))
        return arrays

    def _placed(self, name: str, value: np.ndarray) -> Tensor:
        """What is trained under a name, or kept for it, where it belongs."""
        del name
        return self._tensor(value)

    @abc.abstractmethod
    def _tensor(self, value: np.ndarray) -> Tensor:
        """An array as a tensor of the backend, in memory of its own."""

    @abc.abstractmethod
    def _array(self, tensor: Tensor) -> np.ndarray:
        """A tensor's values as an array, in memory of its own."""

    @abc.abstractmethod
    def _summed(self, batches: list[dict[str, np.ndarray]], scale: float) -> tuple[Tensors, Tensor]:
        """Gradients summed over micro-batches, each target's times `scale`; and the summed loss, not scaled.

        Args:
            batches: From `_arrays`.
            scale: A factor.
        """

    @abc.abstractmethod
    def _update(self, gradients: Tensors, loss: Tensor, numbers: Mapping[str, float]) -> float:
        """Change what is trained, by `StepProgram.update`; returns the gradients' global norm."""

    @abc.abstractmethod
    def _loss_of(self, batch: dict[str, np.ndarray]) -> float:
        """Summed loss of a micro-batch."""
