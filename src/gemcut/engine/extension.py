"""The compiled module `gemcut._native`: whether it is there, and what it can do here."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from gemcut.errors import MissingExtraError


def is_built() -> bool:
    """Whether this installation has the C++ engine."""
    return importlib.util.find_spec("gemcut._native") is not None


def native() -> Any:
    """The compiled module.

    Raises:
        MissingExtraError: this installation has none, or the system cannot load it.
    """
    try:
        return importlib.import_module("gemcut._native")
    except ImportError as error:
        raise MissingExtraError(
            f'engine "native": this installation has no C++ engine that runs here ({error}). Install Gemcut again with '
            "a C++ compiler at hand, or use --engine jax, torch or tensorflow."
        ) from error


def engine_facts() -> dict[str, Any]:
    """What the engine finds on this machine.

    Returns:
        isa (the instruction set its kernels use, or the one GEMCUT_ISA names), cores it may use,
        available_memory_bytes, and l1_bytes, l2_bytes, l3_bytes of the caches (0: the system does not say).

    Raises:
        MissingExtraError: there is no engine.
        UsageError: GEMCUT_ISA names an instruction set that is unknown, or that this processor lacks.
    """
    module = native()
    l1_bytes, l2_bytes, l3_bytes = module.cache_sizes()
    return {
        "isa": module.isa(),
        "cores": module.usable_cores(),
        "available_memory_bytes": module.available_memory_bytes(),
        "l1_bytes": l1_bytes,
        "l2_bytes": l2_bytes,
        "l3_bytes": l3_bytes,
    }
