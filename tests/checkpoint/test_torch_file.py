"""The reader of torch's zip files: the same tensors as torch, no code run, and damage is named."""

from __future__ import annotations

import collections
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gemcut.checkpoint.torch_file import read_torch
from gemcut.errors import CheckpointError

Entries = dict[str, bytes]


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def rewrite(path: Path, change: Callable[[Entries], Entries], compression: int = zipfile.ZIP_STORED) -> Path:
    """Change the entries of a zip file."""
    with zipfile.ZipFile(path) as archive:
        entries = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in change(entries).items():
            archive.writestr(f"archive/{name}", data)
    return path


DTYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@pytest.mark.parametrize("protocol", [2, 4], ids=["protocol 2", "protocol 4"])
def test_reads_what_torch_writes(protocol: int, tmp_path: Path) -> None:
    base = torch.arange(60).reshape(5, 12)
    state: dict[str, Any] = {str(dtype): base.to(dtype) for dtype in DTYPES}
    state |= {"part": base[2:4].float(), "parameter": torch.nn.Parameter(base.float()), "scalar": torch.tensor(3.0)}
    state["shared"] = state["part"]
    path = tmp_path / "m.bin"
    torch.save(collections.OrderedDict(state, epoch=7), path, pickle_protocol=protocol)
    tensors, others = read_torch(path)
    assert others == ["epoch"]
    assert list(tensors) == list(state)
    for name, tensor in tensors.items():
        expected = state[name].detach()
        assert (tensor.shape, tensor.stored_type) == (tuple(expected.shape), DTYPES[expected.dtype])
        assert tensor.raw is not None
        assert tensor.raw.tobytes() == expected.contiguous().view(-1).view(torch.uint8).numpy().tobytes(), name


def test_reads_a_modules_state(tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 2)  # its state dict carries attributes of its own
    tensors, _ = read_torch(save(module.state_dict(), tmp_path / "m.bin"))
    assert tensors["weight"].raw is not None
    assert np.array_equal(tensors["weight"].raw.view(np.float32).reshape(2, 3), module.weight.detach().numpy())


class Command:
    """An object that runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


def test_code_is_refused_and_not_run(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    path = save({"a": torch.ones(2), "b": Command(target)}, tmp_path / "m.bin")
    with pytest.raises(CheckpointError, match=r"data\.pkl: contains the name 'posix\.system', expected tensors only"):
        read_torch(path)
    assert not target.exists()


FOREIGN = {
    "legacy": (
        lambda path: torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False),
        "since torch 1.6",
    ),
    "plain pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "m.bin: is not one of torch's zip files"),
    "empty": (lambda path: path.touch(), "is not one of torch's zip files"),
    "no zip": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(99)), "is not a complete zip file"),
    "tensor alone": (lambda path: save(torch.ones(2), path), "holds a PickledTensor, expected tensors by name"),
    "numbered": (lambda path: save({1: torch.ones(2)}, path), "holds a dict, expected tensors by name"),
    "transposed": (
        lambda path: save({"a": torch.ones(2, 3).T}, path),
        r'"a" of shape \(3, 2\) has strides \(1, 3\), expected rows one after the other',
    ),
    "newer storage": (
        lambda path: save({"a": torch.ones(2).to(torch.float8_e4m3fn)}, path),
        "contains the name 'torch.storage.UntypedStorage'|contains the name 'torch._utils._rebuild_tensor_v3'",
    ),
}


@pytest.mark.parametrize(("make", "message"), FOREIGN.values(), ids=FOREIGN)
def test_other_files_are_named(make: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    make(tmp_path / "m.bin")
    with pytest.raises(CheckpointError, match=message) as caught:
        read_torch(tmp_path / "m.bin")
    assert caught.value.exit_code == 3


DAMAGED: dict[str, tuple[Callable[[Entries], Entries], str]] = {
    "no pickle": (lambda old: {"data/0": old["data/0"]}, "has 0 entries named data.pkl, expected one"),
    "big-endian": (lambda old: old | {"byteorder": b"big"}, "has byte order b'big', expected b'little'"),
    "no storage": (
        lambda old: {name: data for name, data in old.items() if name != "data/0"},
        'has no entry "archive/data/0"',
    ),
    "storage cut short": (
        lambda old: old | {"data/0": old["data/0"][:-1]},
        r'"a" of shape \(64,\) needs bytes 0 to 256 of a storage of 255 bytes. The file is damaged',
    ),
    "pickle cut short": (lambda old: old | {"data.pkl": old["data.pkl"][:-1]}, "data.pkl: is not a complete pickle"),
    "huge pickle": (
        lambda old: old | {"data.pkl": bytes(64 * 2**20 + 1)},
        "its data.pkl is 67108865 bytes, expected at most 67108864",
    ),
}


@pytest.mark.parametrize(("change", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_named(change: Callable[[Entries], Entries], message: str, tmp_path: Path) -> None:
    path = rewrite(save({"a": torch.ones(64)}, tmp_path / "m.bin"), change)
    with pytest.raises(CheckpointError, match=message):
        read_torch(path)


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = save({"a": torch.ones(64)}, tmp_path / "m.bin")
    rewrite(path, lambda old: old | {"data.pkl": bytes(10**7)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r'entry "archive/.*" is compressed or encrypted, expected plain'):
        read_torch(path)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    path = save({"a": torch.ones(64)}, tmp_path / "m.bin")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("m/data.pkl", b"another")
    with pytest.raises(CheckpointError, match="has two entries of one name"):
        read_torch(path)


def test_an_entry_outside_the_file_is_named(tmp_path: Path) -> None:
    path = save({"a": torch.ones(64)}, tmp_path / "m.bin")
    data = path.read_bytes()
    # The local header of the storage claims a name of 65,535 bytes, so its data would begin behind the end.
    begin = data.rindex(b"PK\x03\x04", 0, data.index(b"m/data/0"))
    path.write_bytes(data[: begin + 26] + b"\xff\xff" + data[begin + 28 :])
    with pytest.raises(CheckpointError, match='entry "m/data/0" lies outside the file'):
        read_torch(path)
