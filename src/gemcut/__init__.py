"""Gemcut takes an open model of the Gemma family down its whole road.

Names are looked up when they are first used, so `import gemcut` loads no deep-learning framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gemcut import tune
    from gemcut.config import DecoderConfig, published
    from gemcut.errors import GemcutError
    from gemcut.generate import TextModel, load
    from gemcut.inspect import doctor, show
    from gemcut.interfaces import Completion, LanguageModel, Piece, SamplingOptions

__version__ = "0.1.0.dev0"
__all__ = [
    "Completion",
    "DecoderConfig",
    "GemcutError",
    "LanguageModel",
    "Piece",
    "SamplingOptions",
    "TextModel",
    "doctor",
    "load",
    "published",
    "show",
    "tune",
]

_HOMES = {
    "Completion": "gemcut.interfaces",
    "DecoderConfig": "gemcut.config",
    "GemcutError": "gemcut.errors",
    "LanguageModel": "gemcut.interfaces",
    "Piece": "gemcut.interfaces",
    "SamplingOptions": "gemcut.interfaces",
    "TextModel": "gemcut.generate",
    "doctor": "gemcut.inspect",
    "load": "gemcut.generate",
    "published": "gemcut.config",
    "show": "gemcut.inspect",
    "tune": "gemcut.tune",  # the package itself, which can be called
}


def __getattr__(name: str) -> Any:
    """The public name, imported from its home on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gemcut' has no attribute {name!r}; its names are {', '.join(__all__)}.")
    home = importlib.import_module(_HOMES[name])
    value = home if _HOMES[name] == f"{__name__}.{name}" else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
