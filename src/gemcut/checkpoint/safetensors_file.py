"""Reading safetensors: one file, or shards with an index; every number of the header is checked against the file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from gemcut.checkpoint.stored import StoredTensor, without_duplicates
from gemcut.errors import CheckpointError
from gemcut.files import map_file, parse_json, read_json

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
# Bytes of one number. Source: the safetensors format description; sub-byte types are not among them.
_DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one safetensors file, memory-mapped.

    Raises:
        NotFoundError: there is no such file.
        CheckpointError: it is damaged, or not a safetensors file.
    """
    where, data = path.name, map_file(path)
    header, _, start = _header(data, where)
    entries = {name: _entry(name, entry, where) for name, entry in header.items()}
    _check_offsets(entries, len(data) - start, where)
    everything = np.frombuffer(data, np.uint8)
    return {
        name: StoredTensor(name, shape, dtype, everything[start + begin : start + end], where)
        for name, (dtype, shape, begin, end) in entries.items()
    }


def read_metadata(path: Path) -> dict[str, str]:
    """The texts that go along with the tensors of a safetensors file; raises as `read_safetensors` does."""
    return _header(map_file(path), path.name)[1]


def _header(data: Any, where: str) -> tuple[dict[str, Any], dict[str, str], int]:
    """The header's entries, the metadata, and where the tensors' bytes begin."""
    if len(data) < 8:
        raise CheckpointError(f"{where}: is {len(data)} bytes, expected at least 8. The file is cut short.")
    header_bytes = int.from_bytes(data[:8], "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"{where}: claims a header of {header_bytes} bytes, expected at most {MAX_HEADER_BYTES}. "
            "This is not a safetensors file, or it is damaged."
        )
    if header_bytes > len(data) - 8:
        raise CheckpointError(
            f"{where}: its header needs {8 + header_bytes} bytes, the file has {len(data)}. The file is cut short."
        )
    header = parse_json(data[8 : 8 + header_bytes], f"{where}: header")
    if not isinstance(header, dict):
        raise CheckpointError(f"{where}: its header is a {type(header).__name__}, expected a JSON object.")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{where}: __metadata__ is not a mapping from text to text. The file is damaged.")
    return header, metadata, 8 + header_bytes


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _entry(name: str, entry: Any, where: str) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape and byte range of one tensor, checked against one another."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f'{where}: the entry of "{name:.80}" is not {{dtype, shape, data_offsets}}.')
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPE_BYTES:
        raise CheckpointError(
            f'{where}: "{name:.80}" has dtype {dtype!r:.40}, expected one of {", ".join(sorted(_DTYPE_BYTES))}.'
        )
    if not isinstance(shape, list) or len(shape) > 64 or not all(map(_is_size, shape)):
        raise CheckpointError(f'{where}: "{name:.80}" has shape {shape!r:.80}, expected a list of sizes.')
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_size, offsets)):
        raise CheckpointError(f'{where}: "{name:.80}" has data_offsets {offsets!r:.80}, expected [begin, end].')
    begin, end = offsets
    wanted = math.prod(shape) * _DTYPE_BYTES[dtype]
    if end - begin != wanted:
        raise CheckpointError(
            f'{where}: "{name:.80}" holds {end - begin} bytes, expected {wanted} for {dtype} of shape {tuple(shape)}.'
        )
    return dtype, tuple(shape), begin, end


def _check_offsets(entries: dict[str, tuple[str, tuple[int, ...], int, int]], data_bytes: int, where: str) -> None:
    """The format's rule: the tensors fill the data without a gap, an overlap or a rest."""
    position, before = 0, "the header"
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != position:
            fault = "overlaps" if begin < position else "leaves a gap after"
            raise CheckpointError(
                f'{where}: "{name:.80}" begins at byte {begin} of the data and {fault} {before}, which ends at '
                f"{position}. The file is damaged."
            )
        position, before = end, f'"{name:.80}"'
    if position != data_bytes:
        fault = "The file is cut short." if position > data_bytes else "The rest belongs to no tensor."
        raise CheckpointError(f"{where}: its tensors need {position} bytes, the file has {data_bytes}. {fault}")


def index_files(path: Path) -> dict[str, str]:
    """The `weight_map` of an index (`*.index.json`): file name by tensor name.

    Raises:
        NotFoundError: there is no such file.
        CheckpointError: it is not such an index, or it names a file outside its folder.
    """
    index = read_json(path)
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f'{path.name}: has no "weight_map", expected file names by tensor name.')
    for tensor, file in names.items():
        if not isinstance(file, str) or not file or Path(file).name != file or "\\" in file or "\0" in file:
            raise CheckpointError(
                f'{path.name}: "{tensor:.80}" is said to be in {file!r:.80}, expected a file in the same folder.'
            )
    return names


def read_sharded(path: Path, read_file: Any) -> dict[str, StoredTensor]:
    """The tensors of all shards that an index names.

    Args:
        path: The index.
        read_file: Reader of one shard, from its path to its tensors.

    Raises:
        NotFoundError: the index or a shard is missing.
        CheckpointError: a file is damaged, or a tensor is not where the index says, or in two shards.
    """
    names = index_files(path)
    parts = {file: read_file(path.with_name(file)) for file in sorted(set(names.values()))}
    for tensor, file in names.items():
        if tensor not in parts[file]:
            raise CheckpointError(
                f'{file}: has no "{tensor:.80}", which {path.name} says it has. The files do not belong together.'
            )
    return without_duplicates(list(parts.values()))
