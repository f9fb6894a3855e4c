"""Opening a checkpoint for the C++ engine, and the settings beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gemcut.checkpoint.checkpoint import gguf_sampling, read_generation_config, weights_format
from gemcut.engine import NativeCheckpoint
from gemcut.errors import BackendError


def is_native_format(path: str | Path) -> bool:
    """Whether the C++ engine reads this kind of file: GGUF or safetensors; raises as `open_checkpoint` does."""
    return weights_format(Path(path)) != "torch"


def open_native(path: str | Path) -> NativeCheckpoint:
    """Open a model's files with the C++ engine.

    Raises:
        BackendError: the weights are a PyTorch file, which the engine does not read.
        NotFoundError, CheckpointError, ConfigError, TokenizerError: as the engine says.
    """
    if not is_native_format(path):
        raise BackendError(
            f'{path}: is a PyTorch checkpoint, which engine "native" does not read; expected GGUF or '
            "safetensors. Use --engine jax, torch or tensorflow."
        )
    return NativeCheckpoint(path)


def generation_config_of(checkpoint: NativeCheckpoint) -> Mapping[str, Any]:
    """The checkpoint's own sampling settings, in the words of generation_config.json; empty where it has none."""
    if checkpoint.is_gguf:
        return gguf_sampling(checkpoint.metadata)
    return read_generation_config(folder_of(checkpoint))


def folder_of(checkpoint: NativeCheckpoint) -> Path:
    """The folder that its files lie in."""
    return checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
