"""Steps on several devices of one machine, on TensorFlow: MirroredStrategy computes gradients on each of its rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from gemcut.errors import UsageError
from gemcut.tune.batches import Batch
from gemcut.tune.forward import Tree
from gemcut.tune.schedule import LearningRate
from gemcut.tune.step_program import StepProgram, Tensors
from gemcut.tune.train_step_tensorflow import BackendTrainStep

Tensor = Any


class MirroredTrainStep(BackendTrainStep):
    """Steps whose gradients come from all devices; the optimiser and what it keeps are on the first.

    Before each step the others get what is trained. An adapter is small; where all weights are trained, this sends as
    much as the gradients on their way back.

    Args:
        program, frozen, learning_rate: As of `TrainStep`.
        num_devices: Accelerators to take, or, where there are none, logical processors.

    Raises:
        UsageError: there are fewer.
    """

    def __init__(self, program: StepProgram, frozen: Tree, learning_rate: LearningRate, num_devices: int) -> None:
        names = device_names()
        if len(names) < num_devices:
            raise UsageError(
                f"--devices {num_devices}: TensorFlow finds {len(names)} here ({', '.join(names)}). Ask for fewer, or "
                "use --engine jax or torch, which take several machines."
            )
        self._strategy = tf.distribute.MirroredStrategy(
            names[:num_devices], cross_device_ops=tf.distribute.ReductionToOneDevice()
        )
        self._num_devices = num_devices
        super().__init__(program, frozen, learning_rate)
        self._own_frozen = self._on_each(lambda _: self.frozen)

    def _summed(self, batches: list[dict[str, np.ndarray]], scale: float) -> tuple[Tensors, Tensor]:
        trained = self._on_each(lambda _: _values(self.trained))
        factor = self._on_each(lambda _: tf.constant(scale, tf.float32))
        sums = self._on_each(lambda _: {name: tf.zeros(value.shape) for name, value in self.trained.items()})
        losses = []
        for batch in batches:
            rows = self._rows_of_each(batch)
            sums, loss = self._strategy.run(self._add_gradients, args=(trained, sums, self._own_frozen, rows, factor))
            losses.append(self._total(loss))
        return {name: self._total(value) for name, value in sums.items()}, tf.add_n(losses)

    def _loss_of(self, batch: dict[str, np.ndarray]) -> float:
        trained, rows = self._on_each(lambda _: _values(self.trained)), self._rows_of_each(batch)
        return float(self._total(self._strategy.run(self._evaluate, args=(trained, self._own_frozen, rows))))

    def _arrays(self, batch: Batch) -> dict[str, np.ndarray]:
        """Those of each device's rows, under its number."""
        fields = [field.name for field in dataclasses.fields(Batch)]
        parts = [np.split(getattr(batch, name), self._num_devices) for name in fields]
        own = (Batch(**dict(zip(fields, each, strict=True))) for each in zip(*parts, strict=True))
        return {
            f"{number}/{name}": value
            for number, each in enumerate(own)
            for name, value in super(MirroredTrainStep, self)._arrays(each).items()
        }

    def _rows_of_each(self, batch: Mapping[str, np.ndarray]) -> Any:
        def of(number: int) -> Tensors:
            prefix = f"{number}/"
            own = {name.removeprefix(prefix): value for name, value in batch.items() if name.startswith(prefix)}
            return _values(own)

        return self._on_each(of)

    def _on_each(self, make: Callable[[int], Any]) -> Any:
        """Tensors on every device: called with its number."""
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.nest.map_structure(tf.identity, make(context.replica_id_in_sync_group))
        )

    def _total(self, value: Any) -> Tensor:
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)


def device_names() -> list[str]:
    """The devices that a run can take: accelerators, else processors, logical ones included."""
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    return [device.name for device in tf.config.list_logical_devices(kind)]


def _values(tensors: Mapping[str, Any]) -> Tensors:
    return {name: tf.convert_to_tensor(value) for name, value in tensors.items()}
