"""From an open checkpoint and a recipe to the steps of a run on an engine."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from gemcut.checkpoint import Checkpoint
from gemcut.checkpoint.load import choose_dtype, load_keras_model, start_engine, to_backend
from gemcut.tune.layout import Layout, Placement
from gemcut.tune.recipe import Recipe
from gemcut.tune.schedule import LearningRate, warmup_steps

if TYPE_CHECKING:
    from gemcut.tune.train_step import TrainStep


def train_step_of(
    checkpoint: Checkpoint,
    recipe: Recipe,
    num_steps: int,
    engine: str,
    threads: int | None = None,
    layout: Layout | None = None,
) -> TrainStep:
    """The steps of a run, at its beginning.

    Args:
        checkpoint: The base model.
        recipe: Of the run.
        num_steps: Of the whole run.
        engine: "jax", "torch" or "tensorflow"; Keras runs on it from then on.
        threads: CPU threads; None for the engine's default.
        layout: What is split over how many devices; None for one device.

    Raises:
        UsageError: the layout does not fit the model, the batch, the method or the devices.
    """
    start_engine(engine, threads)
    from gemcut.tune.forward import Forward
    from gemcut.tune.optimizers import optimizer_of
    from gemcut.tune.step_program import StepProgram

    backend = importlib.import_module(f"gemcut.tune.train_step_{engine}")
    dtype = choose_dtype(recipe.dtype, engine)
    rate = LearningRate(
        recipe.learning_rate, num_steps, warmup_steps(recipe.warmup, num_steps), recipe.schedule,
        recipe.final_learning_rate,
    )  # fmt: skip
    if layout is not None and engine == "jax":
        from gemcut.tune.sharded_model import sharded_step_of

        return sharded_step_of(checkpoint, recipe, layout, rate, dtype)
    method, frozen = _method_of(checkpoint, recipe, engine, dtype)
    gradients = backend.BackendGradients()
    recompute = "blocks" if recipe.method == "qlora" and recipe.recompute == "nothing" else recipe.recompute
    forward = Forward(checkpoint.config, method, gradients.leaf_ops(), dtype, gradients.recompute(recompute))
    program = StepProgram(forward, optimizer_of(recipe.optimizer), recipe.clip_norm, gradients)
    if layout is not None:
        Placement(checkpoint.config, layout).check(recipe.batch_size)
    if layout is not None and engine == "torch":
        from gemcut.tune.train_step_torch_ddp import DataParallelTrainStep

        return DataParallelTrainStep(program, frozen, rate)
    if layout is not None:
        from gemcut.tune.train_step_tensorflow_mirrored import MirroredTrainStep

        return MirroredTrainStep(program, frozen, rate, layout.num_devices)
    step: TrainStep = backend.BackendTrainStep(program, frozen, rate)
    return step


def _method_of(checkpoint: Checkpoint, recipe: Recipe, engine: str, dtype: str) -> tuple[Any, dict[str, Any]]:
    """What is trained, and the tensors that are not."""
    from gemcut.tune.full_tuning import FullTuning
    from gemcut.tune.lora import Lora
    from gemcut.tune.qlora import QLora, packed_tree

    if recipe.method == "qlora":
        return QLora(checkpoint.config, recipe.lora, dtype, recipe.seed), packed_tree(
            checkpoint, dtype, functools.partial(to_backend, engine=engine)
        )
    if recipe.method == "lora":
        method = Lora(checkpoint.config, recipe.lora, dtype, recipe.seed)
        return method, load_keras_model(checkpoint, engine, dtype, None).keras_model.tree()

    def source(name: str) -> np.ndarray:
        tensor = checkpoint.tensors[name]
        return tensor.read("float32", out=np.empty(tensor.shape, np.float32))

    empty: dict[str, Any] = {"layers": [{}] * checkpoint.config.num_hidden_layers}
    return FullTuning(checkpoint.config, source, dtype), empty
