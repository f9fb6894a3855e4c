"""The learning rate over a run: a linear warm-up, then constant, linear or cosine."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class LearningRate:
    """The learning rate of each step.

    Attributes:
        highest: Reached at the end of the warm-up.
        num_steps: Of the whole run.
        num_warmup_steps: The first of them is already above 0.
        shape: "constant", "linear" or "cosine".
        final_share: What linear and cosine end at, as a share of `highest`.
    """

    highest: float
    num_steps: int
    num_warmup_steps: int = 0
    shape: str = "cosine"
    final_share: float = 0.0

    def at(self, step: int) -> float:
        """Of a step; the first is 0. The last one's is just above the final share, which would be the next one's."""
        if step < self.num_warmup_steps:
            return self.highest * (step + 1) / self.num_warmup_steps
        if self.shape == "constant":
            return self.highest
        done = min(1.0, (step - self.num_warmup_steps) / max(1, self.num_steps - self.num_warmup_steps))
        left = 1 - done if self.shape == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.highest * (self.final_share + (1 - self.final_share) * left)


def warmup_steps(warmup: float, num_steps: int) -> int:
    """Steps of a warm-up that is given as such, or, below 1, as a share of all steps, rounded up."""
    return min(num_steps, math.ceil(warmup * num_steps) if warmup < 1 else round(warmup))
