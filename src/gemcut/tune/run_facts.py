"""What a run stands on: what must be the same for it to go on, and what must be for it to go on bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from gemcut.checkpoint import Checkpoint
from gemcut.errors import UsageError
from gemcut.machine import engine_versions, processor_name, usable_cores
from gemcut.tune.recipe import Recipe

_SAMPLED_BYTES = 4096
ONE_DEVICE = "1"


def run_facts(
    checkpoint: Checkpoint, recipe: Recipe, engine: str, dtype: str, threads: int | None, devices: str = ONE_DEVICE
) -> dict[str, Any]:
    """The facts of a run on this machine.

    Args:
        checkpoint: The base model.
        recipe: Of the run.
        engine, dtype: What computes, and in which type.
        threads: CPU threads that were asked for; None for the engine's default.
        devices: How many there are, and what they split, in words.
    """
    return {
        "recipe": recipe.digest(),
        "base": base_digest(checkpoint),
        "engine": engine,
        "dtype": dtype,
        "threads": threads or usable_cores(),
        "devices": devices,
        "processor": processor_name(),
        "versions": engine_versions(engine),
    }


def base_digest(checkpoint: Checkpoint) -> str:
    """SHA-256 of names, shapes, types and the ends of every stored tensor: tells models apart without reading all."""
    digest = hashlib.sha256()
    for name, tensor in checkpoint.tensors.items():
        digest.update(f"{name} {tensor.shape} {tensor.stored_type} ".encode())
        digest.update(tensor.raw[:_SAMPLED_BYTES].tobytes() + tensor.raw[-_SAMPLED_BYTES:].tobytes())
    return digest.hexdigest()


def check_same_run(kept: Mapping[str, Any], now: Mapping[str, Any], where: str) -> list[str]:
    """Whether a run can go on, and what may make it differ from one that was not interrupted.

    Args:
        kept: Facts of the checkpoint.
        now: Facts of this process.
        where: The run's folder.

    Returns:
        What differs, in words; empty where the result is the same bit for bit.

    Raises:
        UsageError: another recipe, or another base model.
    """
    for key, what in (("recipe", "another recipe"), ("base", "another base model")):
        if kept[key] != now[key]:
            raise UsageError(
                f"{where}: holds a run of {what} ({kept[key][:12]}, this is {now[key][:12]}). Choose another --output, "
                "or begin anew in this one with --fresh."
            )
    kept = {"devices": ONE_DEVICE, **kept}  # not written down before there could be several
    differing = [
        f"{key} was {kept[key]}, is {now[key]}"
        for key in ("engine", "dtype", "threads", "devices", "processor")
        if kept[key] != now[key]
    ]
    packages = sorted({*kept["versions"], *now["versions"]})
    pairs = {package: (kept["versions"].get(package), now["versions"].get(package)) for package in packages}
    return differing + [f"{package} was {one}, is {other}" for package, (one, other) in pairs.items() if one != other]
