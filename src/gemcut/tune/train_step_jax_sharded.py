"""Steps on several devices, on JAX: one program for each device, and the optimiser on tensors where they lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

from gemcut.checkpoint import Checkpoint
from gemcut.errors import UsageError
from gemcut.tune.batches import Batch
from gemcut.tune.forward import Method, Tree
from gemcut.tune.layout import DATA, TENSOR, Layout, Placement
from gemcut.tune.losses import ROW_CHUNK, LearntRows
from gemcut.tune.optimizers import Optimizer
from gemcut.tune.recipe import Recipe
from gemcut.tune.schedule import LearningRate
from gemcut.tune.sharded_program_jax import PlacedMethod, ShardedForward, ShardedProgram, SplitOps
from gemcut.tune.sharded_weights import frozen_tree, own_sizes
from gemcut.tune.step_program import Tensors
from gemcut.tune.train_step import TrainStep
from gemcut.tune.train_step_jax import BackendGradients

Tensor = Any
GATHERED_BYTES = 256 << 20
BATCH = ("token_ids", "positions", "segments", "rows", "ids", "num_chunks")


def grid_of(layout: Layout, devices: list[Any] | None = None) -> Mesh:
    """The layout's grid of devices.

    Args:
        layout: The layout.
        devices: Those to take; None for the first of all that JAX knows.

    Raises:
        UsageError: there are too few.
    """
    found = jax.devices() if devices is None else devices
    if len(found) < layout.num_devices:
        raise UsageError(
            f"--devices {layout.num_devices}: JAX finds {len(found)} here ({found[0].platform}). Ask for fewer, or "
            "start one process on each machine (docs/tuning-devices.md)."
        )
    chosen = np.array(found[: layout.num_devices]).reshape(layout.num_data, layout.num_tensor)
    return Mesh(chosen, (DATA, TENSOR))


@dataclasses.dataclass(frozen=True)
class Specs:
    """How all tensors of a step are split.

    Attributes:
        trained: By name.
        slots: By name and slot.
        frozen: Like the frozen tree.
    """

    trained: dict[str, Spec]
    slots: dict[str, dict[str, Spec]]
    frozen: Any

    @classmethod
    def of(cls, placement: Placement, method: Method, optimizer: Optimizer, frozen: Any) -> Specs:
        """Those of a placement; what the optimiser keeps lies where its tensor does, if it has its shape."""
        shapes = method.shapes()
        trained = {name: spec_of(placement, name, shape) for name, shape in shapes.items()}
        slots = {
            name: {
                slot: trained[name] if kept == shape else Spec() for slot, kept in optimizer.slots(shape).items()
            }
            for name, shape in shapes.items()
        }  # fmt: skip
        return cls(trained, slots, frozen)


def spec_of(placement: Placement, name: str, shape: tuple[int, ...]) -> Spec:
    """How a tensor is split over the grid."""
    axis = placement.axis(name, shape)
    return Spec() if axis is None else Spec(*[None] * axis, placement.split_over)


@dataclasses.dataclass(frozen=True)
class Functions:
    """What is compiled for a step; arguments as of `ShardedProgram`."""

    zeros: Callable[[], Tensors]
    add_gradients: Callable[..., tuple[Tensors, Tensor]]
    apply: Callable[..., tuple[Tensors, dict[str, Tensors], Tensor]]
    evaluate: Callable[..., Tensor]

    @classmethod
    def of(cls, program: ShardedProgram, mesh: Mesh, specs: Specs, shapes: Mapping[str, tuple[int, ...]]) -> Functions:
        """Of a program on a grid."""
        batch = {name: Spec(DATA) for name in BATCH}

        def on_each(function: Callable[..., Any], inputs: Any, outputs: Any, **settings: Any) -> Callable[..., Any]:
            each = jax.shard_map(function, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False)
            return jax.jit(each, **settings)

        def placed(tree: Any) -> Any:
            return jax.tree.map(lambda spec: NamedSharding(mesh, spec), tree)

        trained = placed(specs.trained)
        return cls(
            jax.jit(lambda: {name: jax.numpy.zeros(shape) for name, shape in shapes.items()}, out_shardings=trained),
            on_each(
                program.gradients,
                (specs.trained, specs.trained, specs.frozen, batch, Spec()),
                (specs.trained, Spec()),
                donate_argnums=1,
            ),
            jax.jit(
                program.update,
                donate_argnums=(0, 1),
                out_shardings=(trained, placed(specs.slots), NamedSharding(mesh, Spec())),
            ),
            on_each(program.loss, (specs.trained, specs.frozen, batch), Spec()),
        )


class ShardedTrainStep(TrainStep):
    """Steps on a grid of devices, of one process or several."""

    program: ShardedProgram

    def __init__(
        self, program: ShardedProgram, frozen: Tree, learning_rate: LearningRate, mesh: Mesh, placement: Placement
    ) -> None:
        self._mesh, self._placement = mesh, placement
        method = program.forward.method
        frozen_specs = jax.tree.map(lambda tensor: tensor.sharding.spec, frozen)
        self._specs = Specs.of(placement, method, program.optimizer, frozen_specs)
        self._shapes = method.shapes()
        super().__init__(program, frozen, learning_rate)
        self._functions = Functions.of(program, mesh, self._specs, self._shapes)
        whole = NamedSharding(mesh, Spec())
        self._rows = jax.jit(jax.lax.dynamic_slice_in_dim, static_argnums=2, out_shardings=whole)

    def _placed(self, name: str, value: np.ndarray) -> Tensor:
        spec = self._specs.trained[name] if value.shape == self._shapes[name] else Spec()
        return self._spread(value, spec)

    def _spread(self, value: np.ndarray, spec: Spec) -> Tensor:
        sharding = NamedSharding(self._mesh, spec)
        return jax.make_array_from_callback(value.shape, sharding, lambda index: np.array(value[index]))

    def _tensor(self, value: np.ndarray) -> Tensor:
        return self._spread(value, Spec())

    def _array(self, tensor: Tensor) -> np.ndarray:
        if tensor.is_fully_addressable or tensor.is_fully_replicated:
            return np.array(tensor)
        return np.concatenate(list(self._blocks(tensor)))

    def _blocks(self, tensor: Tensor) -> Iterator[np.ndarray]:
        """The rows of a tensor that other processes hold parts of, some at a time: no device takes all of it."""
        row_bytes = tensor.nbytes // tensor.shape[0]
        step = max(1, min(tensor.shape[0], GATHERED_BYTES // row_bytes))
        for begin in range(0, tensor.shape[0], step):
            size = min(step, tensor.shape[0] - begin)
            yield np.array(self._rows(tensor, begin, size))

    def _arrays(self, batch: Batch) -> dict[str, np.ndarray]:
        """What is learnt is gathered on each device from its own rows."""
        num_data = self._placement.layout.num_data
        learnt = [LearntRows.of(part, ROW_CHUNK) for part in np.split(batch.targets, num_data)]
        arrays = {name: getattr(batch, name) for name in ("token_ids", "positions", "segments")}
        counts = [-(-each.num_targets // ROW_CHUNK) for each in learnt]
        return arrays | {
            "rows": np.concatenate([each.rows for each in learnt]),
            "ids": np.concatenate([each.ids for each in learnt]),
            "num_chunks": np.array(counts, np.int32),
        }

    def _summed(self, batches: list[dict[str, np.ndarray]], scale: float) -> tuple[Tensors, Tensor]:
        sums, losses = self._functions.zeros(), []
        for batch in batches:
            rows = self._on_devices(batch)
            sums, loss = self._functions.add_gradients(self.trained, sums, self.frozen, rows, np.float32(scale))
            losses.append(loss)
        return sums, sum(losses)

    def _update(self, gradients: Tensors, loss: Tensor, numbers: Mapping[str, float]) -> float:
        rounded = {name: np.float32(number) for name, number in numbers.items()}
        self.trained, self.slots, norm = self._functions.apply(self.trained, self.slots, gradients, loss, rounded)
        return float(norm)

    def _loss_of(self, batch: dict[str, np.ndarray]) -> float:
        return float(self._functions.evaluate(self.trained, self.frozen, self._on_devices(batch)))

    def _on_devices(self, batch: dict[str, np.ndarray]) -> Tensors:
        return {name: self._spread(value, Spec(DATA)) for name, value in batch.items()}


def sharded_program(
    placement: Placement, method: Method, own_method: Method, recipe: Recipe, dtype: str, optimizer: Optimizer
) -> ShardedProgram:
    """The program of each device.

    Args:
        placement: Where tensors lie.
        method: What is trained, over all devices.
        own_method: The same of `placement.own_config`.
        recipe: Of the run.
        dtype: Compute type.
        optimizer: How tensors change.
    """
    backend = BackendGradients()
    prefix = "model.layers.0."
    shapes = own_sizes(placement.config, placement) | {
        name.removeprefix(prefix): shape for name, shape in method.shapes().items() if name.startswith(prefix)
    }
    leaf = SplitOps() if placement.layout.name == "tensor" else backend.leaf_ops()
    forward = ShardedForward(
        placement.own_config,
        PlacedMethod(own_method, method, placement, shapes, dtype, method.outer_names),
        leaf,
        dtype,
        backend.recompute(recipe.recompute),
        placement,
    )
    split = (name for name, shape in method.shapes().items() if placement.axis(name, shape) is not None)
    finished = frozenset(split) if placement.layout.name == "fsdp" else frozenset()
    return ShardedProgram(forward, optimizer, recipe.clip_norm, backend, finished)


def frozen_on(checkpoint: Checkpoint, placement: Placement, mesh: Mesh, dtype: str) -> Tree:
    """The tensors that are not trained, on a grid."""

    def place(name: str, shape: tuple[int, ...], read: Callable[[Any], np.ndarray]) -> Tensor:
        sharding = NamedSharding(mesh, spec_of(placement, name, shape))
        return jax.make_array_from_callback(shape, sharding, read)

    return frozen_tree(checkpoint, placement, dtype, place)
