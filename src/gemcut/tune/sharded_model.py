"""From an open checkpoint, a recipe and a layout to the steps of a run on several devices."""

from __future__ import annotations

from typing import Any

from gemcut.checkpoint import Checkpoint
from gemcut.config import DecoderConfig
from gemcut.errors import UsageError
from gemcut.tune.full_tuning import FullTuning
from gemcut.tune.layout import Layout, Placement
from gemcut.tune.lora import Lora
from gemcut.tune.optimizers import optimizer_of
from gemcut.tune.recipe import Recipe
from gemcut.tune.schedule import LearningRate
from gemcut.tune.sharded_weights import PartsOf
from gemcut.tune.train_step_jax_sharded import ShardedTrainStep, frozen_on, grid_of, sharded_program


def sharded_step_of(
    checkpoint: Checkpoint, recipe: Recipe, layout: Layout, learning_rate: LearningRate, dtype: str
) -> ShardedTrainStep:
    """The steps of a run at its beginning, on JAX; every weight is read for the devices that hold it only.

    Args:
        checkpoint: The base model.
        recipe: Of the run.
        layout: What is split over how many devices.
        learning_rate: Of each step.
        dtype: Compute type.

    Raises:
        UsageError: there are fewer devices, or the layout divides what cannot be divided.
    """
    placement = Placement(checkpoint.config, layout)
    placement.check(recipe.batch_size)
    mesh = grid_of(layout)
    method = method_of(recipe, checkpoint.config, dtype, checkpoint)
    own_method = method_of(recipe, placement.own_config, dtype)
    program = sharded_program(placement, method, own_method, recipe, dtype, optimizer_of(recipe.optimizer))
    frozen: dict[str, Any] = {"layers": [{}] * checkpoint.config.num_hidden_layers}
    if recipe.method == "lora":
        frozen = frozen_on(checkpoint, placement, mesh, dtype)
    return ShardedTrainStep(program, frozen, learning_rate, mesh, placement)


def method_of(
    recipe: Recipe, config: DecoderConfig, dtype: str, checkpoint: Checkpoint | None = None
) -> Lora | FullTuning:
    """What a recipe trains.

    Args:
        recipe: The recipe.
        config: Of the decoder, or of one device's part of it.
        dtype: Compute type.
        checkpoint: The base model, where its weights will be asked for.

    Raises:
        UsageError: the recipe's method is for one device only.
    """
    if recipe.method == "lora":
        return Lora(config, recipe.lora, dtype, recipe.seed)
    if recipe.method != "full":
        raise UsageError(f"method {recipe.method}: runs on one device only so far. Take --devices 1, or --method lora.")

    def source(name: str) -> Any:
        assert checkpoint is not None, "parts of layers have no weights of their own"
        return PartsOf(checkpoint, (name,))  # read by indexing, part by part

    return FullTuning(config, source, dtype)
