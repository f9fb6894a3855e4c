"""This machine: its processor and memory, and the versions of what computes on it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path

CPU_FILE = Path("/proc/cpuinfo")
_PACKAGES = {
    "native": ("numpy",),
    "jax": ("numpy", "keras", "jax", "jaxlib"),
    "torch": ("numpy", "keras", "torch"),
    "tensorflow": ("numpy", "keras", "tensorflow", "tensorflow-cpu"),
}


def usable_cores() -> int:
    """How many cores this process may use; all there are where the system does not tell (macOS, Windows)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_fields() -> dict[str, str]:
    """What Linux says of the first processor, by names in lower case; empty elsewhere."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in CPU_FILE.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip().lower(), value.strip())
    return fields


def processor_name() -> str:
    """The processor's name, or its family where it has none."""
    return cpu_fields().get("model name") or platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    """Bytes of main memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def engine_versions(engine: str) -> dict[str, str]:
    """Versions of Python, Gemcut and what an engine computes with, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in ("gemcut", *_PACKAGES.get(engine, ())):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
