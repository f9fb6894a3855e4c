"""Tensors in order, made ahead on all cores."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest

from gemcut.checkpoint.lazy_tensor import LazyTensor
from gemcut.checkpoint.recoding import Recoding
from gemcut.checkpoint.tensor_stream import FilePlan
from gemcut.errors import CheckpointError


def recodings(count: int, kind: str = "F16") -> list[Recoding]:
    rng = np.random.default_rng(4)
    found = []
    for number in range(count):
        values = rng.standard_normal((rng.integers(1, 40), rng.integers(1, 40)), np.float32)
        raw = values.reshape(-1).view(np.uint8)
        found.append(
            Recoding(LazyTensor(f"t{number}", f"t{number}", "f", values.shape, "F32", raw), f"t{number}", kind)
        )
    return found


@pytest.mark.parametrize("alignment", [1, 32])
def test_tensors_lie_in_order(alignment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gemcut.checkpoint.recoding.CHUNK_VALUES", 50)
    plan = FilePlan("f", b"header..", recodings(20), alignment)
    seen: list[tuple[str, int]] = []
    digest, losses = plan.write(tmp_path / "f", lambda *call: seen.append(call))
    wanted = b"header.."
    for tensor in plan.tensors:
        data = tensor.tensor.read("float16").tobytes()
        wanted += data + bytes(-len(data) % alignment)
    assert (tmp_path / "f").read_bytes() == wanted
    assert (plan.num_bytes, digest) == (len(wanted), hashlib.sha256(wanted).hexdigest())
    assert losses == [(0, 0)] * 20
    assert sum(num_bytes for _, num_bytes in seen) == len(wanted)
    assert list(dict.fromkeys(name for name, _ in seen)) == ["f", *(f"t{number}" for number in range(20))]


def test_failure_ends_all_threads(tmp_path: Path) -> None:
    tensors = recodings(30)
    tensors[7].tensor.raw.view(np.float32)[0] = np.nan
    before = threading.active_count()
    with pytest.raises(CheckpointError, match='"t7" has a value that is NaN or infinite'):
        FilePlan("f", b"", tensors).write(tmp_path / "f", lambda *call: None)
    assert threading.active_count() == before
