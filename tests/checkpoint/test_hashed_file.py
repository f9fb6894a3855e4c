"""Files that are hashed while they are written."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest

from gemcut.checkpoint.hashed_file import HashedFile


def test_digest_is_that_of_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    parts = [rng.integers(0, 256, size, np.uint8) for size in (0, 1, 100_000, 3, 70_000)] * 4
    with HashedFile(tmp_path / "f") as file:
        for part in parts:
            file.write(part)
        file.write(b"end")
        digest = file.finish()
    data = (tmp_path / "f").read_bytes()
    assert data == b"".join(part.tobytes() for part in parts) + b"end"
    assert digest == hashlib.sha256(data).hexdigest()
    assert file.num_bytes == len(data)


def test_failure_ends_the_thread(tmp_path: Path) -> None:
    def fail() -> None:
        with HashedFile(tmp_path / "f") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert threading.active_count() == before
