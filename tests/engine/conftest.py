"""The tiny model on the native engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def tiny_folder(write_tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Gemma 3 as Hugging Face has it."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def model(tiny_folder: Path) -> Iterator[Any]:
    """Its language model."""
    from gemcut.engine import NativeCheckpoint, NativeLanguageModel

    with NativeCheckpoint(tiny_folder) as checkpoint:
        model = NativeLanguageModel(checkpoint, threads=2)
    yield model
    model.close()
