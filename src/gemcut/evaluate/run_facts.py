"""What results.json says of a run besides its figures: model, machine and versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from gemcut.evaluate.identity import ModelIdentity
from gemcut.generate.text_model import TextModel

CPU_FILE = Path("/proc/cpuinfo")
_CONFIG_KEYS = (
    "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "vocab_size", "max_position_embeddings",
)  # fmt: skip
_PACKAGES = {"native": ("numpy",), "jax": ("numpy", "keras", "jax", "jaxlib"), "torch": ("numpy", "keras", "torch"),
             "tensorflow": ("numpy", "keras", "tensorflow", "tensorflow-cpu")}  # fmt: skip


def model_facts(model: TextModel, identity: ModelIdentity) -> dict[str, Any]:
    """Name, digests, and how it is computed."""
    config = model.config
    return {
        "name": model.name,
        **identity.as_dict(),
        "threads": model.num_threads,
        "context": model.context,
        "is_instruction_tuned": model.is_instruction_tuned,
        "config": {key: getattr(config, key) for key in _CONFIG_KEYS},
    }


def machine_facts() -> dict[str, Any]:
    """The processor's name, the cores that this process may use, memory and system; None for what is not known."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        memory = None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": _processor(), "cores": cores, "memory_bytes": memory, "system": platform.platform()}


def version_facts(engine: str) -> dict[str, str]:
    """Versions of what computed the figures."""
    found = {"python": platform.python_version()}
    for package in ("gemcut", *_PACKAGES.get(engine, ())):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in CPU_FILE.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
