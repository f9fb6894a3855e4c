"""The bytes of a GGUF file before its tensors: version 3, tensors aligned to 32 bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from gemcut.checkpoint.gguf_file import MAGIC
from gemcut.errors import CheckpointError
from gemcut.quantize import type_named

ALIGNMENT = 32
_VERSION = 3
# Value types by number. Source: the GGUF specification of the ggml project.
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY, _UINT64, _INT64 = 4, 5, 6, 7, 8, 9, 10, 11
_FORMS = {_UINT32: "<I", _INT32: "<i", _FLOAT32: "<f", _BOOL: "<?", _UINT64: "<Q", _INT64: "<q"}


class TensorInfo(Protocol):
    """What a file's header says of a tensor."""

    @property
    def name(self) -> str:
        """As the file has it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Outermost axis first."""

    @property
    def stored_type(self) -> str:
        """As ggml names it."""

    @property
    def num_bytes(self) -> int:
        """Of its data, unpadded."""


def gguf_header(metadata: Mapping[str, Any], tensors: Sequence[TensorInfo]) -> bytes:
    """Everything before the first tensor's bytes, padded to the alignment.

    The tensors follow in the same order, each padded by `padding` bytes.

    Args:
        metadata: Key to value: text, bool, whole number, float, or a list or numpy array of one of these.
        tensors: What will be written.

    Raises:
        CheckpointError: a value is of a kind that GGUF does not have.
    """
    parts = [MAGIC, struct.pack("<IQQ", _VERSION, len(tensors), len(metadata))]
    for key, value in metadata.items():
        kind, data = _encoded(key, value)
        parts += [_text(key), struct.pack("<I", kind), data]
    offset = 0
    for tensor in tensors:
        sizes = tensor.shape[::-1]  # the innermost axis first
        number = type_named(tensor.stored_type).number
        parts.append(_text(tensor.name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, number, offset))
        offset += tensor.num_bytes + padding(tensor.num_bytes)
    header = b"".join(parts)
    return header + bytes(padding(len(header)))


def padding(num_bytes: int) -> int:
    """Bytes that fill up to the alignment."""
    return -num_bytes % ALIGNMENT


def _text(value: str) -> bytes:
    data = value.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _encoded(key: str, value: Any) -> tuple[int, bytes]:
    """Number of the value's type, and its bytes."""
    if isinstance(value, str):
        return _STRING, _text(value)
    if isinstance(value, np.ndarray):
        return _ARRAY, _encoded_array(key, value)
    if isinstance(value, (list, tuple)):
        return _ARRAY, _encoded_list(key, value)
    kind = _kind(key, [value])
    return kind, struct.pack(_FORMS[kind], value)


def _kind(key: str, values: Sequence[Any]) -> int:
    """The type that holds all of some scalars of one kind."""
    kinds = set(map(type, values))
    if kinds == {bool}:
        return _BOOL
    if kinds == {int}:
        low, high = min(values), max(values)
        for kind, bits in ((_UINT32, 32), (_INT32, 31), (_UINT64, 64), (_INT64, 63)):
            lowest = 0 if kind in (_UINT32, _UINT64) else -(1 << bits)
            if lowest <= low and high < 1 << bits:
                return kind
    elif kinds and kinds <= {int, float}:
        return _FLOAT32
    raise CheckpointError(
        f"GGUF metadata: {key!r} is {values!r:.80}, expected text, booleans, whole numbers up to 64 bits or floats. "
        "It cannot be written."
    )


def _encoded_list(key: str, values: Sequence[Any]) -> bytes:
    if values and all(isinstance(value, str) for value in values):
        return struct.pack("<IQ", _STRING, len(values)) + b"".join(map(_text, values))
    if not values:
        return struct.pack("<IQ", _STRING, 0)
    kind = _kind(key, values)
    # Readers expect small whole numbers in arrays with a sign.
    kind = _INT32 if kind == _UINT32 and max(values) < 1 << 31 else kind
    form = _FORMS[kind]
    return struct.pack("<IQ", kind, len(values)) + struct.pack(f"<{len(values)}{form[1]}", *values)


def _encoded_array(key: str, values: np.ndarray) -> bytes:
    kinds = {"float32": _FLOAT32, "int32": _INT32}
    if values.dtype.name not in kinds:
        raise CheckpointError(f"GGUF metadata: {key!r} holds {values.dtype}, expected float32 or int32.")
    return (
        struct.pack("<IQ", kinds[values.dtype.name], values.size)
        + values.astype(values.dtype.newbyteorder("<")).tobytes()
    )
