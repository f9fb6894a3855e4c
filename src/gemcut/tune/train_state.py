"""What a step did, and what a run has to keep of the model: on the host, where no backend is needed for it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class StepResult:
    """What a step did.

    Attributes:
        loss: Mean negative log-probability of its targets, in nats, before the step.
        num_targets: Tokens that were learnt.
        gradient_norm: Global norm of the gradients before clipping.
        learning_rate: Of this step.
    """

    loss: float
    num_targets: int
    gradient_norm: float
    learning_rate: float

    @property
    def is_finite(self) -> bool:
        """Whether all is a number; where it is not, nothing was changed."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


@dataclasses.dataclass
class TrainState:
    """All that steps change.

    Attributes:
        step: Steps done.
        trained: What is trained, float32 by name.
        slots: What the optimiser keeps for each of those, float32 by slot.
    """

    step: int
    trained: dict[str, np.ndarray]
    slots: dict[str, dict[str, np.ndarray]]
