"""The GGUF writer: what the gguf package and our own reader find in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from gemcut.checkpoint.gguf_file import read_gguf
from gemcut.checkpoint.gguf_writer import gguf_header
from gemcut.checkpoint.lazy_tensor import LazyTensor
from gemcut.checkpoint.recoding import Recoding
from gemcut.errors import CheckpointError

VALUES: dict[str, Any] = {
    "text": "Größe",
    "empty": "",
    "yes": True,
    "whole": 7,
    "negative": -7,
    "large": 2**40,
    "large negative": -(2**40),
    "float": 0.5,
    "texts": ["a", "", "é"],
    "numbers": [1, 2, -3],
    "small numbers": [1, 2, 3],
    "large numbers": [1, 2**35],
    "floats": [0.25, 1],
    "flags": [True, False],
    "nothing": [],
    "scores": np.array([0.5, -1000], np.float32),
    "types": np.array([1, 6], np.int32),
}


def recoding(name: str, shape: tuple[int, ...]) -> Recoding:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Recoding(LazyTensor(name, name, "f", shape, "F32", values.reshape(-1).view(np.uint8)), name, "F32")


def written(path: Path, metadata: dict[str, Any], tensors: list[Recoding]) -> Path:
    data = gguf_header(metadata, tensors)
    for tensor in tensors:
        data += tensor.tensor.raw.tobytes() + bytes(-tensor.num_bytes % 32)
    path.write_bytes(data)
    return path


def test_every_value_is_read_by_both_readers(tmp_path: Path) -> None:
    tensors = [recoding("a", (3, 5)), recoding("b", (7,)), recoding("c", (1, 32))]
    path = written(tmp_path / "m.gguf", {"general.architecture": "gemma"} | VALUES, tensors)
    ours, stored = read_gguf(path)
    theirs = gguf.GGUFReader(path)
    for key, value in VALUES.items():
        wanted = value.tolist() if isinstance(value, np.ndarray) else value
        assert ours[key] == wanted, key
        assert type(ours[key]) is type(wanted)
        assert theirs.get_field(key).contents() == wanted, key
    assert {tensor.name: tuple(tensor.shape.tolist()) for tensor in theirs.tensors} == {
        "a": (5, 3),
        "b": (7,),
        "c": (32, 1),
    }
    for tensor, found in zip(tensors, theirs.tensors, strict=True):
        assert stored[tensor.name].shape == tensor.shape
        assert stored[tensor.name].raw is not None
        assert found.data.tobytes() == tensor.tensor.raw.tobytes() == stored[tensor.name].raw.tobytes()
        assert found.data_offset % 32 == 0


def test_small_numbers_have_the_types_that_llama_cpp_expects(tmp_path: Path) -> None:
    reader = gguf.GGUFReader(written(tmp_path / "m.gguf", {"general.architecture": "gemma"} | VALUES, []))
    kinds = {key: [kind.name for kind in reader.get_field(key).types] for key in VALUES}
    assert kinds["whole"] == ["UINT32"]
    assert kinds["negative"] == ["INT32"]
    assert kinds["float"] == ["FLOAT32"]
    assert kinds["small numbers"] == kinds["types"] == ["ARRAY", "INT32"]
    assert kinds["scores"] == ["ARRAY", "FLOAT32"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "'k' is None|'k' is .None"),
        (2**64, "'k' is .18446744073709551616., expected text, booleans, whole numbers up to 64 bits or floats"),
        ([1, "a"], "'k' is .1, 'a'., expected text"),
        ({"a": 1}, "'k' is"),
        (np.ones(3), "'k' holds float64, expected float32 or int32"),
    ],
    ids=["none", "too large", "mixed", "mapping", "array"],
)
def test_other_values_are_refused(value: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        gguf_header({"k": value}, [])
