"""The safetensors reader: what the format's library writes, and every way a header can lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from gemcut.checkpoint.safetensors_file import index_files, read_safetensors, read_sharded
from gemcut.errors import CheckpointError, NotFoundError


def header(**changes: Any) -> dict[str, Any]:
    """Two tensors that fill 24 bytes."""
    entries: dict[str, Any] = {
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [16, 24]},
    }
    return entries | changes


def encoded(content: Any, num_data: int = 24, claimed: int | None = None) -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return (len(text) if claimed is None else claimed).to_bytes(8, "little") + text + bytes(num_data)


def entry(dtype: Any = "F32", shape: Any = (2,), data_offsets: Any = (16, 24)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": data_offsets}


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    written = {
        "float": rng.standard_normal((3, 5)).astype(np.float32),
        "half": rng.standard_normal((4,)).astype(np.float16),
        "bytes": rng.integers(0, 9, (3,), dtype=np.uint8),
        "none": np.zeros((0, 7), np.float32),
    }
    safetensors.numpy.save_file(written, tmp_path / "m.safetensors", {"format": "pt"})
    read = read_safetensors(tmp_path / "m.safetensors")
    assert {name: (tensor.shape, tensor.stored_type) for name, tensor in read.items()} == {
        "float": ((3, 5), "F32"),
        "half": ((4,), "F16"),
        "bytes": ((3,), "U8"),
        "none": ((0, 7), "F32"),
    }
    for name, tensor in read.items():
        assert tensor.raw is not None
        assert tensor.raw.tobytes() == written[name].tobytes()


DAMAGED = {
    "shorter than its length": (b"\x01\x02", "m.safetensors: is 2 bytes, expected at least 8. The file is cut short"),
    "header of 2**60": (encoded(header(), claimed=2**60), "claims a header of 1152921504606846976 bytes, expected at"),
    "header cut short": (encoded(header())[:60], r"its header needs \d+ bytes, the file has 60. The file is cut short"),
    "garbage": (encoded(b"{" + b"\xff" * 30), "header: is not valid JSON"),
    "no object": (encoded([1]), "its header is a list, expected a JSON object"),
    "name twice": (encoded(b'{"a": 1, "a": 2}'), "key 'a' occurs twice"),
    "metadata": (encoded(header(__metadata__={"a": 1})), "__metadata__ is not a mapping from text to text"),
    "entry is a number": (encoded(header(b=1)), 'the entry of "b" is not {dtype, shape, data_offsets}'),
    "entry incomplete": (encoded(header(b={"dtype": "F32"})), 'the entry of "b" is not'),
    "unknown dtype": (encoded(header(b=entry(dtype="Q4"))), "\"b\" has dtype 'Q4', expected one of BF16, BOOL"),
    "dtype is a list": (encoded(header(b=entry(dtype=["F32"]))), "has dtype .*, expected one of"),
    "shape is text": (encoded(header(b=entry(shape="2"))), "has shape '2', expected a list of sizes"),
    "negative shape": (encoded(header(b=entry(shape=[-2]))), r"has shape \[-2\], expected a list of sizes"),
    "shape of booleans": (encoded(header(b=entry(shape=[True, 2]))), "expected a list of sizes"),
    "huge shape": (encoded(header(b=entry(shape=[2**70]))), "expected a list of sizes"),
    "shape overflows": (
        encoded(header(b=entry(shape=[2**62, 4]))),
        "holds 8 bytes, expected 73786976294838206464 for F32",
    ),
    "offsets are text": (
        encoded(header(b=entry(data_offsets="0:8"))),
        r"has data_offsets '0:8', expected \[begin, end",
    ),
    "one offset": (encoded(header(b=entry(data_offsets=[16]))), r"has data_offsets \[16\], expected"),
    "offsets reversed": (encoded(header(b=entry(data_offsets=[24, 16]))), '"b" holds -8 bytes, expected 8'),
    "shape and bytes": (encoded(header(b=entry(shape=[3]))), r'"b" holds 8 bytes, expected 12 for F32 of shape \(3,\)'),
    "overlap": (
        encoded(header(b=entry(data_offsets=[12, 20]))),
        '"b" begins at byte 12 of the data and overlaps "a", which ends at 16',
    ),
    "gap": (encoded(header(b=entry(data_offsets=[20, 28])), 28), '"b" begins at byte 20 .* leaves a gap after "a"'),
    "gap at the start": (
        encoded({"a": entry(data_offsets=[8, 16])}, 16),
        "leaves a gap after the header, which ends at 0",
    ),
    "data cut short": (encoded(header(), 23), "its tensors need 24 bytes, the file has 23. The file is cut short"),
    "out of bounds": (
        encoded(header(b=entry(shape=[2**40], data_offsets=[16, 16 + 2**42]))),
        "its tensors need 4398046511120 bytes, the file has 24",
    ),
    "rest": (encoded(header(), 30), "its tensors need 24 bytes, the file has 30. The rest belongs to no tensor"),
}


@pytest.mark.parametrize(("data", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_named(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_safetensors(tmp_path / "m.safetensors")
    assert caught.value.exit_code == 3


def write_shards(folder: Path, weight_map: Any, shards: dict[str, tuple[str, ...]]) -> Path:
    for file, names in shards.items():
        safetensors.numpy.save_file({name: np.ones(2, np.float32) for name in names}, folder / file)
    (folder / "m.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder / "m.safetensors.index.json"


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    index = write_shards(
        tmp_path, {"a": "1.safetensors", "b": "2.safetensors"}, {"1.safetensors": ("a",), "2.safetensors": ("b",)}
    )
    tensors = read_sharded(index, read_safetensors)
    assert {name: tensor.file for name, tensor in tensors.items()} == {"a": "1.safetensors", "b": "2.safetensors"}


@pytest.mark.parametrize(
    ("weight_map", "shards", "error", "message"),
    [
        ({"a": "1.st", "b": "2.st"}, {"1.st": ("a",)}, NotFoundError, r"2\.st: no such file"),
        (
            {"a": "1.st", "b": "1.st"},
            {"1.st": ("a",)},
            CheckpointError,
            r'1\.st: has no "b", which m\.safetensors\.index',
        ),
        (
            {"a": "1.st", "b": "2.st"},
            {"1.st": ("a", "b"), "2.st": ("b",)},
            CheckpointError,
            r'2\.st: "b" is also in 1\.st, expected each tensor once',
        ),
        ({}, {}, CheckpointError, 'has no "weight_map", expected file names by tensor name'),
        ([1], {}, CheckpointError, 'has no "weight_map"'),
        (
            {"a": "../1.st"},
            {},
            CheckpointError,
            r"\"a\" is said to be in '\.\./1\.st', expected a file in the same fol",
        ),
        ({"a": "/etc/passwd"}, {}, CheckpointError, "expected a file in the same folder"),
        ({"a": 3}, {}, CheckpointError, "is said to be in 3, expected a file"),
    ],
    ids=["missing shard", "tensor missing", "tensor twice", "empty", "list", "parent", "absolute", "number"],
)
def test_damaged_shards_are_named(
    weight_map: Any, shards: dict[str, tuple[str, ...]], error: type[Exception], message: str, tmp_path: Path
) -> None:
    index = write_shards(tmp_path, weight_map, shards)
    with pytest.raises(error, match=message):
        read_sharded(index, read_safetensors)


def test_an_index_must_be_an_object(tmp_path: Path) -> None:
    (tmp_path / "m.index.json").write_text("[]")
    with pytest.raises(CheckpointError, match='has no "weight_map"'):
        index_files(tmp_path / "m.index.json")
