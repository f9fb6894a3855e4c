"""Optimisers as pure functions of one tensor: AdamW, Adafactor and Lion; and the gradients' global norm.

What depends on the step is computed outside, in Python's double precision, and handed in as numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from keras import ops

from gemcut.tune.recipe import OptimizerSettings

Tensor = Any
Slots = dict[str, Tensor]


class Optimizer(Protocol):
    """How one tensor changes by its gradient; every tensor float32."""

    def slots(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what is kept for a tensor between steps; all begin at zero."""

    def numbers(self, step: int, learning_rate: float) -> dict[str, float]:
        """What depends on the step; the first step is 0."""

    def update(
        self, parameter: Tensor, gradient: Tensor, slots: Slots, numbers: Mapping[str, Tensor]
    ) -> tuple[Tensor, Slots]:
        """The tensor and what is kept for it after a step."""


@dataclasses.dataclass(frozen=True)
class AdamW:
    """AdamW as PyTorch computes it: epsilon is added to the root of the corrected second moment.

    Keras adds it before the correction, which in the first steps weighs 30 times as much and bends the small gradients
    of LoRA. Vectors, the gains of norms, do not decay.

    Source: torch 2.13, `torch.optim.adamw`; decoupled decay: arXiv:1711.05101.
    """

    settings: OptimizerSettings

    def slots(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {"mean": shape, "square": shape}

    def numbers(self, step: int, learning_rate: float) -> dict[str, float]:
        beta1, beta2 = self.settings.beta1, self.settings.beta2
        return {
            "learning_rate": learning_rate,
            "step_size": learning_rate / (1 - beta1 ** (step + 1)),
            "root_correction": (1 - beta2 ** (step + 1)) ** 0.5,
        }

    def update(
        self, parameter: Tensor, gradient: Tensor, slots: Slots, numbers: Mapping[str, Tensor]
    ) -> tuple[Tensor, Slots]:
        settings = self.settings
        mean = settings.beta1 * slots["mean"] + (1 - settings.beta1) * gradient
        square = settings.beta2 * slots["square"] + (1 - settings.beta2) * gradient * gradient
        parameter = _decayed(parameter, settings.weight_decay, numbers["learning_rate"])
        root = ops.sqrt(square) / numbers["root_correction"] + settings.epsilon
        return parameter - numbers["step_size"] * (mean / root), {"mean": mean, "square": square}


@dataclasses.dataclass(frozen=True)
class Adafactor:
    """Adafactor with Keras's defaults: second moments of matrices as rows and columns, no first moment.

    Source: Keras 3.15, `keras.optimizers.Adafactor`; arXiv:1804.04235.
    """

    settings: OptimizerSettings
    decay: float = -0.8
    epsilon_square: float = 1e-30
    epsilon_scale: float = 1e-3
    clip_threshold: float = 1.0

    def slots(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {"square": shape} if len(shape) < 2 else {"rows": shape[:-1], "columns": (*shape[:-2], shape[-1])}

    def numbers(self, step: int, learning_rate: float) -> dict[str, float]:
        scale = min(learning_rate, (step + 1) ** -0.5)
        return {"learning_rate": learning_rate, "scale": scale, "beta2": 1 - (step + 1) ** self.decay}

    def update(
        self, parameter: Tensor, gradient: Tensor, slots: Slots, numbers: Mapping[str, Tensor]
    ) -> tuple[Tensor, Slots]:
        beta2 = numbers["beta2"]
        squared = gradient * gradient + self.epsilon_square
        if "square" in slots:
            kept = {"square": beta2 * slots["square"] + (1 - beta2) * squared}
            estimate = kept["square"]
        else:
            kept = {
                name: beta2 * slots[name] + (1 - beta2) * ops.mean(squared, axis=axis)
                for name, axis in (("rows", -1), ("columns", -2))
            }
            rows = kept["rows"] / ops.mean(kept["rows"], axis=-1, keepdims=True)
            estimate = rows[..., None] * kept["columns"][..., None, :]
        parameter = _decayed(parameter, self.settings.weight_decay, numbers["learning_rate"])
        change = gradient / ops.sqrt(estimate)
        change = change / ops.maximum(1.0, _root_mean_square(change) / self.clip_threshold)
        step = ops.maximum(self.epsilon_scale, _root_mean_square(parameter)) * numbers["scale"]
        return parameter - step * change, kept


@dataclasses.dataclass(frozen=True)
class Lion:
    """Lion as Keras computes it: the sign of a mean.

    Source: Keras 3.15, `keras.optimizers.Lion`; arXiv:2302.06675.
    """

    settings: OptimizerSettings

    def slots(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {"mean": shape}

    def numbers(self, step: int, learning_rate: float) -> dict[str, float]:
        return {"learning_rate": learning_rate}

    def update(
        self, parameter: Tensor, gradient: Tensor, slots: Slots, numbers: Mapping[str, Tensor]
    ) -> tuple[Tensor, Slots]:
        beta1, beta2 = self.settings.beta1, self.settings.beta2
        direction = ops.sign(beta1 * slots["mean"] + (1 - beta1) * gradient)
        parameter = _decayed(parameter, self.settings.weight_decay, numbers["learning_rate"])
        mean = beta2 * slots["mean"] + (1 - beta2) * gradient
        return parameter - numbers["learning_rate"] * direction, {"mean": mean}


OPTIMIZERS = {"adamw": AdamW, "adafactor": Adafactor, "lion": Lion}


def optimizer_of(settings: OptimizerSettings) -> Optimizer:
    """The optimiser that settings name."""
    return OPTIMIZERS[settings.name](settings)


def global_norm(gradients: Mapping[str, Tensor]) -> Tensor:
    """float32 root of the summed squares of all gradients."""
    return ops.sqrt(sum(ops.sum(ops.square(gradient)) for gradient in gradients.values()))


def clip_factor(norm: Tensor, limit: float | None) -> Tensor:
    """What gradients of a global norm are multiplied by, so that it is at most `limit`; as PyTorch computes it."""
    return ops.ones_like(norm) if limit is None else ops.minimum(1.0, limit / (norm + 1e-6))


def _decayed(parameter: Tensor, weight_decay: float, learning_rate: Tensor) -> Tensor:
    return parameter * (1 - learning_rate * weight_decay) if weight_decay and len(parameter.shape) > 1 else parameter


def _root_mean_square(x: Tensor) -> Tensor:
    return ops.sqrt(ops.mean(ops.square(x)))
