"""A tiny model in several forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy


@pytest.fixture(scope="session")
def tiny_folder(write_tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Gemma 3 as Hugging Face has it, in float32; its rows are whole blocks of 32."""
    return write_tiny_model(tmp_path_factory.mktemp("inspect") / "tiny", intermediate_size=64)


@pytest.fixture
def write_changed(tiny_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy the tiny model, each tensor through `change(name, values)`; None leaves a tensor out."""

    def write(change: Callable[[str, np.ndarray], np.ndarray | None], name: str = "changed") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in tiny_folder.iterdir():
            if file.suffix != ".safetensors":
                (folder / file.name).write_bytes(file.read_bytes())
        weights = safetensors.numpy.load_file(tiny_folder / "model.safetensors")
        changed = {name: change(name, values) for name, values in weights.items()}
        kept = {name: np.ascontiguousarray(values) for name, values in changed.items() if values is not None}
        safetensors.numpy.save_file(kept, folder / "model.safetensors", {"format": "pt"})
        return folder

    return write
