"""From a model reference to the models that a server answers with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from gemcut.engine.extension import engine_facts
from gemcut.errors import MissingExtraError, UsageError
from gemcut.generate import TextModel
from gemcut.interfaces import ContinuousModel
from gemcut.serve.served_models import ServedModel

# Of the memory that is free once the weights are there: what running texts may need, and what ended ones leave for the
# next with the same beginning (of their memory as much again waits to be used anew).
_CACHE_SHARE, _KEPT_SHARE = 0.5, 0.125
_SUFFIXES = (".gguf", ".safetensors", ".bin", ".pt", ".pth")
_ADAPTER_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


def load_served(
    name: str,
    adapters: Mapping[str, Path],
    load: Callable[[Path | None], TextModel],
    *,
    parallel: int,
    max_waiting: int,
) -> list[ServedModel]:
    """The model, and the model with each adapter as NAME+ADAPTER.

    Args:
        name: What clients call the model.
        adapters: Folders of LoRA adapters by their names.
        load: Loads the model with an adapter, or without one.
        parallel: Texts of each that are generated side by side.
        max_waiting: Texts of each that may wait.
    """
    named = {name: None} | {f"{name}+{adapter}": path for adapter, path in adapters.items()}
    loaded = {served_as: load(path) for served_as, path in named.items()}
    models = []
    for served_as, lm in loaded.items():
        free = _free_bytes(lm)
        if free is not None:
            _keep_less(lm, int(free * _KEPT_SHARE) // len(loaded))
        cache_bytes = None if free is None else int(free * _CACHE_SHARE) // len(loaded)
        lm.constraints = loaded[name].constraints  # an adapter has no tokenizer of its own, so one vocabulary will do
        scheduler = lm.new_scheduler(parallel, max_waiting, cache_bytes)
        models.append(ServedModel(served_as, lm, scheduler, base=None if served_as == name else name))
    return models


def served_name(reference: str) -> str:
    """What clients call a model unless they are told otherwise: no folder of this machine is in it."""
    name = reference.rstrip("/").rpartition("/")[2] if _is_path(reference) else reference
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name or reference


def adapter_of(text: str) -> tuple[str, Path]:
    """Name and folder of NAME=PATH.

    Raises:
        UsageError: it has another form.
    """
    name, _, path = text.partition("=")
    if not _ADAPTER_NAME.fullmatch(name) or not path:
        raise UsageError(f"--adapter {text!r:.200}: expected NAME=PATH, the name of letters, digits and . _ -.")
    return name, Path(path)


def _is_path(reference: str) -> bool:
    return not reference.startswith(("hf:", "kaggle:", "gs://"))


def _free_bytes(lm: TextModel) -> int | None:
    """Memory that is free for a model's texts; None where it is not this machine's own."""
    if lm.device != "cpu":
        return None
    try:
        return int(engine_facts()["available_memory_bytes"])
    except MissingExtraError:
        return None


def _keep_less(lm: TextModel, max_bytes: int) -> None:
    """Let ended texts keep no more than that, on an engine that keeps any."""
    engine = lm.engine_model
    if isinstance(engine, ContinuousModel) and engine.prefix_cache_bytes > max_bytes:
        engine.prefix_cache_bytes = max_bytes
