"""Scalars in the files that TensorBoard reads.

TensorBoard's own package brings a server with it, and tensorboardX every cloud client that happens to be installed, at
import; a scalar takes six fields of a protocol buffer in a record with two checksums.

Source: tensorflow/core/util/event.proto, framework/summary.proto and lib/io/record_writer.h.
"""

from __future__ import annotations

import secrets
import struct
import time
from collections.abc import Mapping
from pathlib import Path

_POLYNOMIAL = 0x82F63B78  # of CRC-32C, reversed
_MASK_DELTA = 0xA282EAD8
_FILE_VERSION = b"brain.Event:2"


class EventWriter:
    """A new file of events; TensorBoard shows all files of a folder as one run.

    Args:
        folder: Made where it is not there.
        first_step: Where a run goes on: what earlier files say of this step and later ones is not shown.
    """

    def __init__(self, folder: Path, first_step: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.gemcut.{secrets.token_hex(4)}"
        self._file = open(folder / name, "xb")  # noqa: SIM115 - closed by close()
        self._write(_bytes(3, _FILE_VERSION))
        if first_step is not None:
            self._write(_integer(2, first_step) + _bytes(7, _integer(1, 1)))  # a session begins

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write scalars of a step by their tags; they are on the disk at once."""
        summary = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + b"\x15" + struct.pack("<f", value)) for tag, value in values.items()
        )
        self._write(_integer(2, step) + _bytes(5, summary))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, event: bytes) -> None:
        data = b"\x09" + struct.pack("<d", time.time()) + event  # field 1: the time
        length = struct.pack("<Q", len(data))
        self._file.write(length + _checksum(length) + data + _checksum(data))
        self._file.flush()


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def _checksum(data: bytes) -> bytes:
    """The masked CRC-32C of a record."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF)
