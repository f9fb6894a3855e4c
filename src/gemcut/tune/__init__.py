"""Supervised fine-tuning: data, the training step of each backend, runs that can be resumed, adapters."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gemcut.tune.recipe import Recipe
    from gemcut.tune.run import TuneResult, Watcher, tune

__all__ = ["Recipe", "TuneResult", "Watcher", "tune"]

_HOMES = {
    "Recipe": "gemcut.tune.recipe",
    "TuneResult": "gemcut.tune.run",
    "Watcher": "gemcut.tune.run",
    "tune": "gemcut.tune.run",
}


def __getattr__(name: str) -> Any:
    """The public name, imported from its home on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gemcut.tune' has no attribute {name!r}; its names are {', '.join(__all__)}.")
    return getattr(importlib.import_module(_HOMES[name]), name)
