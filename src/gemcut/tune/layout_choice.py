"""How many devices a run takes, and what they split, where its recipe leaves that open."""

from __future__ import annotations

import logging

from gemcut.errors import UsageError
from gemcut.tune.cluster import Cluster
from gemcut.tune.layout import Layout
from gemcut.tune.recipe import Recipe
from gemcut.tune.run_facts import ONE_DEVICE

logger = logging.getLogger("gemcut")


def layout_of(recipe: Recipe, engine: str, cluster: Cluster) -> Layout | None:
    """The layout of a run; None for one device.

    Without a number of devices a run takes all accelerators, or as many as the rows of a batch can be split over; and
    one processor.

    Args:
        recipe: Its devices and its batch.
        engine: That has started.
        cluster: The processes, connected.

    Raises:
        UsageError: there are other devices than asked for, or the engine has no such layout.
    """
    settings = recipe.devices
    if settings.tensor is not None and settings.layout != "tensor":
        raise UsageError(
            f"--tensor-devices {settings.tensor}: is for --layout tensor, but the layout is {settings.layout}. Leave "
            "it out, or add --layout tensor."
        )
    num_devices = {"jax": _of_jax, "torch": _of_torch, "tensorflow": _of_tensorflow}[engine](recipe, cluster)
    if num_devices == 1:
        return None
    if settings.layout != "tensor":
        return Layout(settings.layout, num_devices)
    num_tensor = settings.tensor or num_devices
    if num_devices % num_tensor:
        raise UsageError(
            f"--tensor-devices {num_tensor}: expected a divisor of {num_devices}, the devices of the run. The others "
            "split the rows."
        )
    return Layout("tensor", num_devices, num_tensor)


def devices_in_words(layout: Layout | None) -> str:
    """The devices of a run, for its facts."""
    if layout is None:
        return ONE_DEVICE
    shared = f", {layout.num_tensor} for each product" if layout.name == "tensor" else ""
    return f"{layout.num_devices} in layout {layout.name}{shared}"


def _of_jax(recipe: Recipe, cluster: Cluster) -> int:
    import jax

    settings, there = recipe.devices, jax.device_count()
    if cluster.num_processes > 1:
        if settings.count not in (None, there):
            raise UsageError(
                f"--devices {settings.count}: the {cluster.num_processes} processes have {there} devices, and all of "
                "them take part. Leave it out."
            )
        return there
    if settings.count is not None:
        return settings.count
    if settings.layout != "data":
        return there
    if jax.default_backend() == "cpu" or recipe.method == "qlora":
        return 1
    return _that_divide(recipe.batch_size, there)


def _that_divide(batch_size: int, there: int) -> int:
    """As many devices of those that are there as rows can be split over."""
    chosen = max(number for number in range(1, there + 1) if batch_size % number == 0)
    if chosen < there:
        logger.warning(
            "%d of %d devices are used: --batch %d cannot be split over more. Take a multiple of %d to use all.",
            chosen, there, batch_size, there,
        )  # fmt: skip
    return chosen


def _of_torch(recipe: Recipe, cluster: Cluster) -> int:
    settings = recipe.devices
    if settings.layout != "data":
        raise UsageError(
            f"--layout {settings.layout}: PyTorch has data only so far. Use --engine jax, or --layout data."
        )
    if settings.count not in (None, cluster.num_processes):
        raise UsageError(
            f"--devices {settings.count}: on PyTorch each device has a process of its own, and there are "
            f"{cluster.num_processes}. Start them: torchrun --nproc-per-node {settings.count} -m gemcut tune ..."
        )
    return cluster.num_processes


def _of_tensorflow(recipe: Recipe, cluster: Cluster) -> int:
    del cluster
    import tensorflow as tf

    settings = recipe.devices
    if settings.layout != "data":
        raise UsageError(f"--layout {settings.layout}: TensorFlow has data only. Use --engine jax, or --layout data.")
    accelerators = len(tf.config.list_physical_devices("GPU"))
    return settings.count or _that_divide(recipe.batch_size, max(1, accelerators))
