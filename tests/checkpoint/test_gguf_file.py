"""The GGUF reader: what the gguf package writes, and every way a file can lie."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from gemcut.checkpoint.gguf_file import read_gguf, read_gguf_file
from gemcut.errors import CheckpointError, NotFoundError


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + items


def info(name: str = "t", dims: tuple[int, ...] = (4,), kind: int = 0, offset: int = 0) -> bytes:
    sizes = struct.pack(f"<{len(dims)}Q", *dims)
    return text(name) + struct.pack("<I", len(dims)) + sizes + struct.pack("<IQ", kind, offset)


def gguf_bytes(
    pairs: list[bytes] | None = None,
    infos: list[bytes] | None = None,
    data: bytes = bytes(64),
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    """A file; by default one tensor of four float32 and no keys."""
    pairs, infos = pairs or [], [info()] if infos is None else infos
    num_tensors, num_keys = counts or (len(infos), len(pairs))
    start = b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_keys) + b"".join(pairs) + b"".join(infos)
    return start + bytes(-len(start) % 32) + data


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_reads_what_the_gguf_package_writes(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "gemma3")
    writer.add_uint8("u8", 200)
    writer.add_int8("i8", -3)
    writer.add_uint16("u16", 60_000)
    writer.add_int16("i16", -30_000)
    writer.add_uint32("u32", 4_000_000_000)
    writer.add_int32("i32", -5)
    writer.add_uint64("u64", 2**63)
    writer.add_int64("i64", -(2**40))
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 0.1)
    writer.add_bool("bool", True)
    writer.add_string("text", "größe")
    writer.add_array("numbers", [1.5, -2.5])
    writer.add_array("words", ["a", "", "ü"])
    writer.add_array("flags", [True, False])
    values = np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
    writer.add_tensor("a", values)
    writer.add_tensor(
        "b", gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0), raw_dtype=gguf.GGMLQuantizationType.Q8_0
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    metadata, tensors = read_gguf(tmp_path / "m.gguf")
    assert metadata == {
        "general.architecture": "gemma3",
        "u8": 200,
        "i8": -3,
        "u16": 60_000,
        "i16": -30_000,
        "u32": 4_000_000_000,
        "i32": -5,
        "u64": 2**63,
        "i64": -(2**40),
        "f32": 0.5,
        "f64": 0.1,
        "bool": True,
        "text": "größe",
        "numbers": [1.5, -2.5],
        "words": ["a", "", "ü"],
        "flags": [True, False],
    }
    assert (tensors["a"].shape, tensors["a"].stored_type) == ((3, 32), "F32")
    assert tensors["a"].raw is not None
    assert tensors["a"].raw.tobytes() == values.tobytes()
    assert (tensors["b"].shape, tensors["b"].stored_type) == ((3, 32), "Q8_0")


@pytest.mark.parametrize("version", [2, 3])
def test_versions_2_and_3_and_other_alignments(version: int, tmp_path: Path) -> None:
    pairs = [pair("general.alignment", 4, struct.pack("<I", 8))]
    data = gguf_bytes(pairs, [info(offset=8)], version=version)
    start = len(gguf_bytes(pairs, [info(offset=8)], data=b""))
    end_of_infos = 24 + sum(map(len, pairs)) + len(info(offset=8))
    begin = -(-end_of_infos // 8) * 8 + 8
    data = data[:begin] + struct.pack("<4f", 1, 2, 3, 4) + data[begin + 16 :]
    assert begin < start + 16
    _, tensors = read_gguf(written(tmp_path / "m.gguf", data))
    assert tensors["t"].raw is not None
    assert tensors["t"].raw.view(np.float32).tolist() == [1, 2, 3, 4]


def test_a_type_that_is_not_known_waits_until_it_is_needed(tmp_path: Path) -> None:
    _, tensors = read_gguf(written(tmp_path / "m.gguf", gguf_bytes(infos=[info(kind=99, dims=(7, 3))])))
    assert (tensors["t"].stored_type, tensors["t"].raw, tensors["t"].shape) == ("ggml type 99", None, (3, 7))


HUGE = 2**62
DAMAGED = {
    "magic": (b"GGML" + gguf_bytes()[4:], "m.gguf: begins with b'GGML', expected b'GGUF'. This is not a GGUF file"),
    "version 1": (gguf_bytes(version=1), "is GGUF version 1, expected 2 or 3"),
    "version 4": (gguf_bytes(version=4), "is GGUF version 4, expected 2 or 3"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is a big-endian GGUF file, expected little-endian"),
    "empty": (b"", "the magic at byte 0 needs 4 bytes, the file has 0 more. The file is cut short or damaged"),
    "no counts": (gguf_bytes()[:12], "the number of tensors at byte 8 needs 8 bytes, the file has 4 more"),
    "tensors claimed": (gguf_bytes(counts=(HUGE, 0)), f"claims a number of tensors of {HUGE}, expected at most 262144"),
    "keys claimed": (
        gguf_bytes(counts=(1, HUGE)),
        f"claims a number of metadata keys of {HUGE}, expected at most 65536",
    ),
    "key length": (
        gguf_bytes([struct.pack("<Q", HUGE)], counts=(0, 1)),
        f"metadata key 0 is {HUGE} bytes long, expected at most 65536",
    ),
    "key is not UTF-8": (gguf_bytes([pair(b"\xff", 4, bytes(4))]), "metadata key 0 at byte 32 is not UTF-8"),
    "key twice": (gguf_bytes([pair("k", 4, bytes(4))] * 2), "metadata key 'k' occurs twice"),
    "value type": (gguf_bytes([pair("k", 13, bytes(8))]), "'k' has value type 13, expected 0 to 12"),
    "string length": (
        gguf_bytes([pair("k", 8, struct.pack("<Q", HUGE))]),
        rf"the value of 'k' at byte \d+ needs {HUGE} bytes, the file has",
    ),
    "array length": (
        gguf_bytes([pair("k", 9, array(4, HUGE))]),
        f"claims a length of the array 'k' of {HUGE}, expected at most 8388608",
    ),
    "arrays together": (
        gguf_bytes([pair("k", 9, array(0, 2**22, bytes(2**22))), pair("l", 9, array(0, 2**22 + 1))]),
        "claims a length of the array 'l' of 4194305, expected at most 4194304",
    ),
    "array cut short": (gguf_bytes([pair("k", 9, array(10, 2**20))]), "the array 'k' at byte .* needs 8388608 bytes"),
    "array in array": (gguf_bytes([pair("k", 9, array(9, 1))]), "'k' is an array of type 9, expected numbers, boole"),
    "array of unknown": (gguf_bytes([pair("k", 9, array(77, 1))]), "'k' is an array of type 77"),
    "strings cut short": (
        gguf_bytes([pair("k", 9, array(8, 1000, text("a")))], infos=[], data=b""),
        "the array 'k' claims 1000 strings, the file ends in number [1-4]",
    ),
    "string in array too long": (
        gguf_bytes([pair("k", 9, array(8, 2, text("a") + struct.pack("<Q", HUGE)))]),
        "the array 'k' claims 2 strings, the file ends in number 1",
    ),
    "string in array not UTF-8": (gguf_bytes([pair("k", 9, array(8, 1, text(b"\xc3")))]), "item 0 of 'k' is not UTF-8"),
    "alignment": (
        gguf_bytes([pair("general.alignment", 4, struct.pack("<I", 24))]),
        "general.alignment is 24, expected a power of two up to 65536",
    ),
    "alignment is text": (gguf_bytes([pair("general.alignment", 8, text("32"))]), "general.alignment is '32'"),
    "dimensions claimed": (
        gguf_bytes(infos=[text("t") + struct.pack("<I", 2**31)]),
        'claims a number of dimensions of "t" of 2147483648, expected at most 4',
    ),
    "no dimensions": (gguf_bytes(infos=[info(dims=())]), r'"t" has dimensions \(\), expected 1 to 4 numbers above 0'),
    "dimension of 0": (gguf_bytes(infos=[info(dims=(0, 4))]), r'"t" has dimensions \(0, 4\), expected'),
    "huge dimension": (gguf_bytes(infos=[info(dims=(2**63, 4))]), "expected 1 to 4 numbers above 0"),
    "product overflows": (gguf_bytes(infos=[info(dims=(2**40, 2**40))]), '"t" ends at byte 48357032784585166988'),
    "infos cut short": (gguf_bytes(data=b"")[:40], "the shape of .* needs 8 bytes|the offset of"),
    "name twice": (gguf_bytes(infos=[info(), info(offset=32)]), 'tensor "t" occurs twice'),
    "offset unaligned": (gguf_bytes(infos=[info(offset=16)]), '"t" lies at offset 16, expected a multiple of 32'),
    "row and block": (
        gguf_bytes(infos=[info(dims=(33,), kind=8)]),
        '"t" has rows of 33 numbers, expected a multiple of 32 for Q8_0',
    ),
    "out of bounds": (gguf_bytes(infos=[info(offset=2**40)]), r'"t" ends at byte \d+, the file has \d+'),
    "data cut short": (gguf_bytes(data=bytes(15)), "ends at byte .* The file is cut short or damaged"),
    "overlap": (gguf_bytes(infos=[info("a", (16,)), info("b", offset=32)]), '"a" and "b" overlap'),
}


@pytest.mark.parametrize(("data", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_named(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read_gguf(written(tmp_path / "m.gguf", data))
    assert caught.value.exit_code == 3


def part(number: int, count: int, name: str, total: int = 2) -> bytes:
    keys = [
        pair("split.no", 2, struct.pack("<H", number)),
        pair("split.count", 2, struct.pack("<H", count)),
        pair("split.tensors.count", 5, struct.pack("<i", total)),
    ]
    return gguf_bytes(keys, [info(name)])


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ([part(0, 2, "a"), None], NotFoundError, r"m-00002-of-00002\.gguf: no such file"),
        (
            [part(0, 2, "a"), part(0, 2, "b")],
            CheckpointError,
            r"m-00002-of-00002\.gguf: says that it is part 0 of 2, expected part 1 of 2 \(counted from 0\)",
        ),
        ([part(0, 3, "a"), part(1, 3, "b")], CheckpointError, "says that it is part 0 of 3, expected part 0 of 2"),
        ([part(0, 2, "a"), part(1, 2, "a")], CheckpointError, '"a" is also in m-00001-of-00002.gguf, expected each'),
        ([part(0, 2, "a", 5), part(1, 2, "b", 5)], CheckpointError, "its parts hold 2 tensors, expected 5"),
    ],
    ids=["part missing", "wrong part", "other count", "tensor twice", "tensors missing"],
)
def test_damaged_splits_are_named(files: list[Any], error: type[Exception], message: str, tmp_path: Path) -> None:
    for number, data in enumerate(files, 1):
        if data is not None:
            (tmp_path / f"m-{number:05d}-of-00002.gguf").write_bytes(data)
    with pytest.raises(error, match=message):
        read_gguf(tmp_path / "m-00001-of-00002.gguf")


def test_a_part_under_another_name_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"m\.gguf: says that it is part 0 of 2, expected part 0 of 1"):
        read_gguf(written(tmp_path / "m.gguf", part(0, 2, "a")))


def test_one_file_of_a_split_can_be_read(tmp_path: Path) -> None:
    assert list(read_gguf_file(written(tmp_path / "m.gguf", part(0, 2, "a")))[1]) == ["a"]
