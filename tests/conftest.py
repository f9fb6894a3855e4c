"""What tests of several folders share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_model


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """The folder of large test material beside the checkout."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared beside the checkout")
    return folder


@pytest.fixture(scope="session")
def starter_path() -> Path:
    """The real starter model's GGUF file, in the user's cache."""
    from gemcut import hub
    from gemcut.errors import NotFoundError

    try:
        hub.find_starter_parts()
    except NotFoundError as error:
        pytest.skip(f"the starter extra is not installed: {error}")
    return hub.starter_path()


@pytest.fixture(scope="session")
def starter_it_adapter() -> Path:
    """The folder of starter-it's adapter in the repository."""
    root = Path(__file__).resolve().parents[1]
    return root / "distributions" / "starter-it" / "src" / "gemcut_starter_it" / "adapter"


@pytest.fixture(scope="session")
def engine() -> str:
    """The engine of this test process: GEMCUT_TEST_ENGINE (native), else KERAS_BACKEND, else jax.

    `make test` runs the tests that are marked `backend` on each.
    """
    return os.environ.get("GEMCUT_TEST_ENGINE") or os.environ.setdefault("KERAS_BACKEND", "jax")


@pytest.fixture(scope="session")
def write_tiny_model() -> Callable[..., Path]:
    """Write a folder as Hugging Face has it: a small random Gemma 3 with the tiny tokenizer (700 pieces).

    Keyword arguments change the configuration.
    """
    return tiny_model.write_tiny_model
