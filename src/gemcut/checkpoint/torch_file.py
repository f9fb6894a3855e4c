"""Reading torch's zip checkpoints (pytorch_model.bin, Gemma's .ckpt) without torch and without running their pickle."""

from __future__ import annotations

import itertools
import math
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from gemcut.checkpoint.restricted_pickle import STORAGE_TYPES, PickledTensor, load_pickle
from gemcut.checkpoint.stored import StoredTensor
from gemcut.errors import CheckpointError
from gemcut.files import map_file

ZIP_MAGIC = b"PK\x03\x04"
PICKLE_MAGIC = b"\x80"
MAX_PICKLE_BYTES = 64 * 1024 * 1024
_LOCAL_HEADER_BYTES = 30


class _Archive:
    """The uncompressed entries of a zip file, as views of its memory map."""

    def __init__(self, path: Path) -> None:
        self.where = path.name
        data = map_file(path)
        if data[: len(ZIP_MAGIC)] != ZIP_MAGIC:
            raise CheckpointError(
                f"{self.where}: is not one of torch's zip files, in use since torch 1.6. Load and save it again with "
                "torch.save, or convert it to safetensors."
            )
        self.bytes = np.frombuffer(data, np.uint8)
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as problem:
            raise CheckpointError(f"{self.where}: is not a complete zip file ({problem}). It is cut short.") from None
        self.entries = {info.filename: info for info in infos}
        if len(self.entries) < len(infos):
            raise CheckpointError(f"{self.where}: has two entries of one name. The file is damaged.")

    def view(self, name: str) -> np.ndarray:
        """The bytes of an entry.

        Raises:
            CheckpointError: it is missing, compressed, encrypted or lies outside the file.
        """
        info = self.entries.get(name)
        if info is None:
            raise CheckpointError(f'{self.where}: has no entry "{name:.80}". The file is damaged.')
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
            raise CheckpointError(
                f'{self.where}: entry "{name:.80}" is compressed or encrypted, expected plain as torch writes it.'
            )
        offset = max(info.header_offset, 0)
        header = self.bytes[offset : offset + _LOCAL_HEADER_BYTES].tobytes()
        if len(header) == _LOCAL_HEADER_BYTES and header.startswith(ZIP_MAGIC):
            name_bytes, extra_bytes = struct.unpack_from("<HH", header, 26)
            begin = offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
            if begin + info.file_size <= self.bytes.size:
                return self.bytes[begin : begin + info.file_size]
        raise CheckpointError(f'{self.where}: entry "{name:.80}" lies outside the file. It is cut short or damaged.')


def read_torch(path: Path) -> tuple[dict[str, StoredTensor], list[str]]:
    """The tensors of a torch checkpoint, memory-mapped, and the names of its entries that are none.

    Raises:
        NotFoundError: there is no such file.
        CheckpointError: it is damaged, compressed, in the format before torch 1.6, or holds more than data.
    """
    archive = _Archive(path)
    pickles = [name for name in archive.entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise CheckpointError(f"{archive.where}: has {len(pickles)} entries named data.pkl, expected one.")
    root = pickles[0].removesuffix("data.pkl")
    byte_order = archive.view(root + "byteorder").tobytes() if root + "byteorder" in archive.entries else b"little"
    if byte_order != b"little":
        raise CheckpointError(f"{archive.where}: has byte order {byte_order[:16]!r}, expected b'little'.")
    pickled = archive.view(pickles[0])
    if pickled.size > MAX_PICKLE_BYTES:
        raise CheckpointError(
            f"{archive.where}: its data.pkl is {pickled.size} bytes, expected at most {MAX_PICKLE_BYTES}."
        )
    content = load_pickle(pickled.tobytes(), f"{archive.where}: data.pkl")
    named, others = _flatten(content, archive.where)
    return {name: _stored(archive, root, name, tensor) for name, tensor in named.items()}, others


def _flatten(content: Any, where: str) -> tuple[dict[str, PickledTensor], list[str]]:
    """Tensors by name from a state dict, or from one that Gemma's `model_state_dict` holds."""
    if isinstance(content, dict) and isinstance(content.get("model_state_dict"), dict):
        others = [name for name in content if name != "model_state_dict"]
        content = content["model_state_dict"]
    else:
        others = []
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in [*content, *others]):
        raise CheckpointError(f"{where}: holds a {type(content).__name__}, expected tensors by name (a state dict).")
    tensors = {name: value for name, value in content.items() if isinstance(value, PickledTensor)}
    return tensors, others + [name for name in content if name not in tensors]


def _stored(archive: _Archive, root: str, name: str, tensor: PickledTensor) -> StoredTensor:
    """A tensor's bytes inside its storage's entry."""
    stored_type, item_bytes = STORAGE_TYPES[tensor.storage_type]
    steps = list(itertools.accumulate(tensor.shape[:0:-1], lambda product, size: product * size, initial=1))[::-1]
    axes = list(zip(tensor.shape, tensor.strides, steps, strict=False))
    if len(tensor.strides) != len(tensor.shape) or any(size > 1 and stride != step for size, stride, step in axes):
        raise CheckpointError(
            f'{archive.where}: "{name}" of shape {tensor.shape} has strides {tensor.strides}, expected rows one after '
            "the other. Save it again after .contiguous()."
        )
    storage = archive.view(f"{root}data/{tensor.storage_key}")
    begin = tensor.offset * item_bytes
    end = begin + math.prod(tensor.shape) * item_bytes
    if end > storage.size or tensor.storage_numbers * item_bytes != storage.size:
        raise CheckpointError(
            f'{archive.where}: "{name}" of shape {tensor.shape} needs bytes {begin} to {end} of a storage of '
            f"{storage.size} bytes. The file is damaged."
        )
    return StoredTensor(name, tensor.shape, stored_type, storage[begin:end], archive.where)
