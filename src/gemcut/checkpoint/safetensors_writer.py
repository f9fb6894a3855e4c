"""The bytes of safetensors files before their tensors, and how a model is split into several files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from gemcut.checkpoint.lazy_tensor import STORED_DTYPES
from gemcut.checkpoint.recoding import Recoding
from gemcut.checkpoint.safetensors_file import MAX_HEADER_BYTES
from gemcut.errors import CheckpointError
from gemcut.files import json_bytes

_ALIGNMENT = 64  # tensors begin where vectors may be loaded from


def safetensors_header(tensors: Sequence[Recoding], metadata: Mapping[str, str] | None = None) -> bytes:
    """Everything before the first tensor's bytes; the tensors follow in the same order without a gap.

    Args:
        tensors: In their order.
        metadata: Texts by name that go along; None for what other programs look for.

    Raises:
        CheckpointError: a tensor is stored in a type that safetensors does not have, or there are too many.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata or {"format": "pt"})}
    offset = 0
    for tensor in tensors:
        if tensor.stored_type not in STORED_DTYPES:
            known = ", ".join(STORED_DTYPES)
            raise CheckpointError(
                f'"{tensor.name}": {tensor.stored_type} is no type of safetensors, expected one of {known}. '
                "Choose one of them, or GGUF."
            )
        end = offset + tensor.num_bytes
        header[tensor.name] = {
            "dtype": tensor.stored_type,
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    data = json.dumps(header, separators=(",", ":")).encode("utf-8")
    data += b" " * (-(len(data) + 8) % _ALIGNMENT)
    if len(data) > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"safetensors: the header needs {len(data)} bytes, expected at most {MAX_HEADER_BYTES}. Split the model."
        )
    return len(data).to_bytes(8, "little") + data


def shards(tensors: Sequence[Recoding], max_bytes: int | None) -> dict[str, list[Recoding]]:
    """The tensors of each file, in order; a tensor larger than `max_bytes` has a file of its own."""
    parts: list[list[Recoding]] = [[]]
    size = 0
    for tensor in tensors:
        if parts[-1] and max_bytes is not None and size + tensor.num_bytes > max_bytes:
            parts.append([])
            size = 0
        parts[-1].append(tensor)
        size += tensor.num_bytes
    if len(parts) == 1:
        return {"model.safetensors": parts[0]}
    return {f"model-{number:05d}-of-{len(parts):05d}.safetensors": part for number, part in enumerate(parts, 1)}


def index_json(files: dict[str, list[Recoding]]) -> bytes:
    """The model.safetensors.index.json of several files."""
    weight_map = {tensor.name: file for file, tensors in files.items() for tensor in tensors}
    total = sum(tensor.num_bytes for tensors in files.values() for tensor in tensors)
    return json_bytes({"metadata": {"total_size": total}, "weight_map": weight_map})
