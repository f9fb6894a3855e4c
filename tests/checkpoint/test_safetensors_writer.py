"""The safetensors writer: what the safetensors library finds, and how shards are cut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from gemcut.checkpoint.lazy_tensor import LazyTensor
from gemcut.checkpoint.recoding import Recoding
from gemcut.checkpoint.safetensors_file import read_safetensors
from gemcut.checkpoint.safetensors_writer import index_json, safetensors_header, shards
from gemcut.errors import CheckpointError


def recoding(name: str, num_values: int, kind: str = "F32") -> Recoding:
    raw = np.arange(num_values, dtype=np.float32).view(np.uint8)
    return Recoding(LazyTensor(name, name, "f", (num_values,), "F32", raw), name, kind)


def test_both_readers_find_the_tensors(tmp_path: Path) -> None:
    tensors = [recoding("a", 5), recoding("ü", 1), recoding("c", 64)]
    header = safetensors_header(tensors)
    assert len(header) % 64 == 0
    path = tmp_path / "m.safetensors"
    path.write_bytes(header + b"".join(tensor.tensor.raw.tobytes() for tensor in tensors))
    found = safetensors.numpy.load_file(path)
    assert {name: values.tolist() for name, values in found.items()} == {
        "a": [0, 1, 2, 3, 4],
        "ü": [0],
        "c": list(range(64)),
    }
    assert list(read_safetensors(path)) == ["a", "ü", "c"]


def test_blocks_are_refused() -> None:
    with pytest.raises(CheckpointError, match='"a": Q8_0 is no type of safetensors, expected one of F32, F16, BF16'):
        safetensors_header([recoding("a", 32, "Q8_0")])


def test_header_beyond_the_formats_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gemcut.checkpoint.safetensors_writer.MAX_HEADER_BYTES", 10)
    with pytest.raises(CheckpointError, match=r"the header needs \d+ bytes, expected at most 10\. Split the model"):
        safetensors_header([recoding("a", 5)])


@pytest.mark.parametrize(
    ("max_bytes", "sizes"),
    [(None, [3]), (10**6, [3]), (24, [2, 1]), (20, [1, 1, 1]), (1, [1, 1, 1])],
    ids=["no limit", "large", "two fit", "one fits", "none fits"],
)
def test_shards_hold_as_much_as_fits(max_bytes: int | None, sizes: list[int]) -> None:
    files = shards([recoding("a", 5), recoding("b", 1), recoding("c", 5)], max_bytes)
    assert [len(part) for part in files.values()] == sizes
    assert [tensor.name for part in files.values() for tensor in part] == ["a", "b", "c"]
    count = len(sizes)
    names = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    assert list(files) == (names if count > 1 else ["model.safetensors"])


def test_index_names_the_file_of_each_tensor() -> None:
    index = json.loads(index_json(shards([recoding("a", 5), recoding("b", 1)], 20)))
    assert index["weight_map"] == {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    assert index["metadata"] == {"total_size": 24}
