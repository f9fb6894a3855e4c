"""Reading GGUF versions 2 and 3, whole or split: metadata and memory-mapped tensors, every claim checked."""

from __future__ import annotations

import itertools
import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from gemcut.checkpoint.stored import StoredTensor, without_duplicates
from gemcut.errors import CheckpointError
from gemcut.files import map_file
from gemcut.quantize import GGML_TYPES

MAGIC = b"GGUF"
# No real file comes near these; a damaged one must not fill the memory.
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 18
MAX_ARRAY_ITEMS = 1 << 23  # in all arrays together
MAX_KEY_BYTES = 1 << 16
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 16

# Value types by number. Source: the GGUF specification of the ggml project.
_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<B"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_U32, _U64 = _SCALARS[4], _SCALARS[10]
_SPLIT_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


class _Cursor:
    """A position in a file's bytes; every read is checked against the end."""

    def __init__(self, data: Any, where: str) -> None:
        self.data, self.where, self.position = data, where, 0
        self.items_left = MAX_ARRAY_ITEMS

    def take(self, num_bytes: int, what: str) -> int:
        """Step over `num_bytes`; where they began."""
        begin = self.position
        if num_bytes > len(self.data) - begin:
            raise CheckpointError(
                f"{self.where}: {what} at byte {begin} needs {num_bytes} bytes, the file has {len(self.data) - begin} "
                "more. The file is cut short or damaged."
            )
        self.position = begin + num_bytes
        return begin

    def scalar(self, form: struct.Struct, what: str) -> Any:
        return form.unpack_from(self.data, self.take(form.size, what))[0]

    def count(self, form: struct.Struct, what: str, limit: int) -> int:
        """A number of things, refused above `limit`."""
        value: int = self.scalar(form, f"the {what}")
        if value > limit:
            raise CheckpointError(f"{self.where}: claims a {what} of {value}, expected at most {limit}. It is damaged.")
        return value

    def text(self, what: str, limit: int | None = None) -> str:
        """A string with its length before it."""
        num_bytes = self.scalar(_U64, f"the length of {what}")
        if limit is not None and num_bytes > limit:
            raise CheckpointError(f"{self.where}: {what} is {num_bytes} bytes long, expected at most {limit}.")
        begin = self.take(num_bytes, what)
        try:
            return bytes(self.data[begin : begin + num_bytes]).decode("utf-8")
        except UnicodeDecodeError:
            raise CheckpointError(f"{self.where}: {what} at byte {begin} is not UTF-8. The file is damaged.") from None


def _value(cursor: _Cursor, kind: int, key: str) -> Any:
    """One metadata value of type `kind`; arrays become lists."""
    if kind == _STRING:
        return cursor.text(f"the value of {key!r}")
    if kind == _ARRAY:
        return _array(cursor, key)
    if kind not in _SCALARS:
        raise CheckpointError(f"{cursor.where}: {key!r} has value type {kind}, expected 0 to 12. The file is damaged.")
    value = cursor.scalar(_SCALARS[kind], f"the value of {key!r}")
    return bool(value) if kind == _BOOL else value


def _array(cursor: _Cursor, key: str) -> list[Any]:
    kind = cursor.scalar(_U32, f"the item type of {key!r}")
    count = cursor.count(_U64, f"length of the array {key!r}", cursor.items_left)
    cursor.items_left -= count
    if kind == _STRING:
        return _strings(cursor, count, key)
    if kind not in _SCALARS:
        raise CheckpointError(
            f"{cursor.where}: {key!r} is an array of type {kind}, expected numbers, booleans or text. "
            "Arrays in arrays are not used by any model."
        )
    form = _SCALARS[kind]
    begin = cursor.take(count * form.size, f"the array {key!r}")
    items = np.frombuffer(cursor.data, np.dtype(form.format), count, begin)
    return (items != 0).tolist() if kind == _BOOL else items.tolist()


def _strings(cursor: _Cursor, count: int, key: str) -> list[str]:
    """`count` strings. Vocabularies have 262,144: this loop is kept free of calls."""
    data, position, size = cursor.data, cursor.position, len(cursor.data)
    unpack, result = _U64.unpack_from, []
    try:
        for _ in range(count):
            begin = position + 8
            position = begin + unpack(data, position)[0]
            if position > size:
                break
            result.append(data[begin:position].decode("utf-8"))
    except struct.error:
        position = size + 1
    except UnicodeDecodeError:
        raise CheckpointError(f"{cursor.where}: item {len(result)} of {key!r} is not UTF-8. It is damaged.") from None
    if position > size:
        raise CheckpointError(
            f"{cursor.where}: the array {key!r} claims {count} strings, the file ends in number {len(result)}. "
            "The file is cut short or damaged."
        )
    cursor.position = position
    return result


def _preamble(cursor: _Cursor) -> tuple[int, int]:
    """Numbers of tensors and of metadata keys, after magic and version."""
    where = cursor.where
    begin = cursor.take(4, "the magic")
    magic = bytes(cursor.data[begin : begin + 4])
    if magic != MAGIC:
        raise CheckpointError(f"{where}: begins with {magic!r}, expected {MAGIC!r}. This is not a GGUF file.")
    version = cursor.scalar(_U32, "the version")
    if version not in (2, 3):
        if int.from_bytes(version.to_bytes(4, "little"), "big") in (2, 3):
            raise CheckpointError(f"{where}: is a big-endian GGUF file, expected little-endian. Convert it again.")
        raise CheckpointError(f"{where}: is GGUF version {version}, expected 2 or 3. Convert the model again.")
    num_tensors = cursor.count(_U64, "number of tensors", MAX_TENSORS)
    return num_tensors, cursor.count(_U64, "number of metadata keys", MAX_KEYS)


def _metadata(cursor: _Cursor, num_keys: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for number in range(num_keys):
        key = cursor.text(f"metadata key {number}", MAX_KEY_BYTES)
        if key in metadata:
            raise CheckpointError(f"{cursor.where}: metadata key {key!r} occurs twice. The file is damaged.")
        metadata[key] = _value(cursor, cursor.scalar(_U32, f"the type of {key!r}"), key)
    return metadata


def _tensor_info(cursor: _Cursor, number: int) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape (outermost first), type number and offset of one tensor."""
    name = cursor.text(f"the name of tensor {number}", MAX_KEY_BYTES)
    num_dimensions = cursor.count(_U32, f'number of dimensions of "{name}"', MAX_DIMENSIONS)
    sizes = tuple(cursor.scalar(_U64, f'the shape of "{name}"') for _ in range(num_dimensions))
    if not sizes or not all(0 < size < 2**63 for size in sizes):
        raise CheckpointError(f'{cursor.where}: "{name}" has dimensions {sizes}, expected 1 to 4 numbers above 0.')
    return (
        name,
        sizes[::-1],
        cursor.scalar(_U32, f'the type of "{name}"'),
        cursor.scalar(_U64, f'the offset of "{name}"'),
    )


def _alignment(metadata: dict[str, Any], where: str) -> int:
    value = metadata.get("general.alignment", 32)
    if type(value) is not int or not 0 < value <= MAX_ALIGNMENT or value & (value - 1):
        raise CheckpointError(f"{where}: general.alignment is {value!r:.40}, expected a power of two up to 65536.")
    return value


def read_gguf_file(path: Path) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    """Metadata and memory-mapped tensors of one GGUF file.

    Raises:
        NotFoundError: there is no such file.
        CheckpointError: it is damaged, big-endian, of another version, or not a GGUF file.
    """
    where, data = path.name, map_file(path)
    cursor = _Cursor(data, where)
    num_tensors, num_keys = _preamble(cursor)
    metadata = _metadata(cursor, num_keys)
    alignment = _alignment(metadata, where)
    infos = [_tensor_info(cursor, number) for number in range(num_tensors)]
    start = -(-cursor.position // alignment) * alignment
    everything = np.frombuffer(data, np.uint8)
    tensors: dict[str, StoredTensor] = {}
    ranges: list[tuple[int, int, str]] = []
    for name, shape, number, offset in infos:
        if name in tensors:
            raise CheckpointError(f'{where}: tensor "{name}" occurs twice. The file is damaged.')
        if offset % alignment:
            raise CheckpointError(f'{where}: "{name}" lies at offset {offset}, expected a multiple of {alignment}.')
        ggml_type = GGML_TYPES.get(number)
        if ggml_type is None:
            tensors[name] = StoredTensor(name, shape, f"ggml type {number}", None, where)
            continue
        if shape[-1] % ggml_type.block_values:
            raise CheckpointError(
                f'{where}: "{name}" has rows of {shape[-1]} numbers, expected a multiple of {ggml_type.block_values} '
                f"for {ggml_type.name}."
            )
        begin = start + offset
        end = begin + math.prod(shape) // ggml_type.block_values * ggml_type.block_bytes
        if end > len(data):
            raise CheckpointError(
                f'{where}: "{name}" ends at byte {end}, the file has {len(data)}. The file is cut short or damaged.'
            )
        ranges.append((begin, end, name))
        tensors[name] = StoredTensor(name, shape, ggml_type.name, everything[begin:end], where)
    _check_overlaps(ranges, where)
    return metadata, tensors


def _check_overlaps(ranges: list[tuple[int, int, str]], where: str) -> None:
    ranges.sort()
    for (_, end, name), (begin, _, next_name) in itertools.pairwise(ranges):
        if begin < end:
            raise CheckpointError(f'{where}: "{name}" and "{next_name}" overlap. The file is damaged.')


def split_files(path: Path) -> list[Path]:
    """All files of a split GGUF in order, from the name of any of them; of a whole one the file itself."""
    match = _SPLIT_NAME.fullmatch(path.name)
    if match is None:
        return [path]
    count = int(match["count"])
    return [path.with_name(f"{match['stem']}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]


def read_gguf(path: Path) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    """Metadata (of the first file) and tensors of a GGUF model, whole or split.

    Raises:
        NotFoundError: a file is missing.
        CheckpointError: a file is damaged, or the files are not the parts of one model.
    """
    files = split_files(path)
    parts = [read_gguf_file(file) for file in files]
    metadata = parts[0][0]
    for number, (file, (keys, _)) in enumerate(zip(files, parts, strict=True)):
        found = (keys.get("split.no", 0), keys.get("split.count", 0) or 1)
        if found != (number, len(files)):
            raise CheckpointError(
                f"{file.name}: says that it is part {found[0]} of {found[1]}, expected part {number} of {len(files)} "
                "(counted from 0). Keep the names that the parts came with."
            )
    tensors = without_duplicates([part for _, part in parts])
    total = metadata.get("split.tensors.count", len(tensors)) if len(files) > 1 else len(tensors)
    if total != len(tensors):
        raise CheckpointError(f"{path.name}: its parts hold {len(tensors)} tensors, expected {total}.")
    return metadata, tensors
