"""Whether an accelerator is there that an installed framework could use, without importing one: that takes seconds."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterable
from pathlib import Path

DEVICE_FOLDER = Path("/dev")
# NVIDIA, AMD and Google TPU drivers; under WSL graphics cards appear as dxg.
_DEVICES = {"cuda": ("nvidia0", "dxg"), "rocm": ("kfd",), "tpu": ("accel0", "vfio/0")}
# Distributions that bring kernels for a kind of device.
_PLUGINS = {
    "jax": {"cuda": ("jax-cuda12-plugin", "jax-cuda13-plugin"), "rocm": ("jax-rocm60-plugin", "jax-rocm7-plugin"),
            "tpu": ("libtpu",)},
    "tensorflow": {"cuda": ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"), "rocm": ("tensorflow-rocm",)},
    "torch": {"cuda": ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"), "rocm": ("pytorch-triton-rocm",)},
}  # fmt: skip


def has_accelerator(engines: Iterable[str]) -> bool:
    """Whether one of the named engines, which are installed, has an accelerator here.

    A device counts when its driver's file is there, the engine's package for it is installed, and
    CUDA_VISIBLE_DEVICES does not hide it.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        kinds = {"rocm", "tpu"}
    else:
        kinds = set(_DEVICES)
    present = {kind for kind in kinds if any((DEVICE_FOLDER / name).exists() for name in _DEVICES[kind])}
    return any(
        _is_distributed(package)
        for engine in engines
        for kind, packages in _PLUGINS[engine].items()
        if kind in present
        for package in packages
    )


def _is_distributed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
