"""The tiny model on the native engine."""

from __future__ import annotations

import contextlib
import signal
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


@pytest.fixture
def interrupted_beyond() -> Callable[..., contextlib.AbstractContextManager[None]]:
    """A context that raises KeyboardInterrupt, at an alarm, once the first sequence of a cache has over `length` tokens.

    A thread that watches the cache would need the interpreter just when a fast model does not let go of it.
    """

    @contextlib.contextmanager
    def context(cache: Any, length: int) -> Iterator[None]:
        is_armed = True

        def ring(*_: Any) -> None:
            if is_armed and cache.lengths[0] > length:
                raise KeyboardInterrupt
            if is_armed:
                signal.setitimer(signal.ITIMER_REAL, 0.0005)  # anew each time: a slow handler must not meet itself

        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        try:
            yield
        finally:
            is_armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    return context
