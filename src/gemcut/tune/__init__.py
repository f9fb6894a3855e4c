"""Supervised fine-tuning: data, the training step of each backend, runs that can be resumed, adapters.

The package itself can be called: `gemcut.tune("starter", "chats.jsonl")`.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Sequence
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


class _Package(types.ModuleType):
    """This package, which can be called."""

    def __call__(
        self,
        model: str | Recipe,
        data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        *,
        output: str | os.PathLike[str] | None = None,
        threads: int | None = None,
        fresh: bool = False,
        watcher: Watcher | None = None,
        **settings: Any,
    ) -> TuneResult:
        """Fine-tune a model, or go on with a run that was interrupted.

        Args:
            model: A model reference, or a whole recipe.
            data: Files of data, with a model reference.
            output, threads, fresh, watcher: As in `gemcut.tune.tune`.
            **settings: Keys of a recipe, those of its parts as mappings: `epochs=2.0, lora={"rank": 8}`.

        Raises:
            UsageError: a setting is unknown or makes no sense. The rest as in `gemcut.tune.tune`.
        """
        from gemcut.tune.recipe import Recipe
        from gemcut.tune.run import tune

        if not isinstance(model, Recipe):
            files = [data] if isinstance(data, str | os.PathLike) else data or []
            settings |= {"model": model, "data": [os.fspath(file) for file in files]}
            model = Recipe.from_dict(settings, "gemcut.tune")
        return tune(model, output, threads=threads, fresh=fresh, watcher=watcher)


sys.modules[__name__].__class__ = _Package
