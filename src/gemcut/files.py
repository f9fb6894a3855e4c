"""Reading and writing files safely: sizes are checked before bytes are read, and a write is whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gemcut.errors import CheckpointError, GemcutError, NotFoundError

MAX_JSON_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 4 * 1024 * 1024


def file_bytes(path: Path, error: type[GemcutError] = CheckpointError) -> int:
    """Size of a regular file in bytes.

    Raises:
        NotFoundError: nothing is there.
        GemcutError: (as `error`) a folder or a device is there, or the system refuses.
    """
    try:
        if path.is_file():
            return path.stat().st_size
        exists = path.exists()
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror}). Check its permissions.") from None
    if not exists:
        raise NotFoundError(f"{path}: no such file. Check the path, or get the missing file.")
    raise error(f"{path}: is a folder or a device, expected a file.")


def read_bytes(path: Path, max_bytes: int, error: type[GemcutError] = CheckpointError) -> bytes:
    """The whole of a file of at most `max_bytes` bytes.

    Raises:
        NotFoundError: nothing is there.
        GemcutError: (as `error`) it is larger, not a file, or the system refuses.
    """
    size = file_bytes(path, error)
    if size > max_bytes:
        raise error(f"{path}: is {size} bytes, expected at most {max_bytes}. This is not the file it is named after.")
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror}). Check its permissions.") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dict, refusing a key that occurs twice."""
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice!r} occurs twice")
    return result


def _refuse_constant(name: str) -> Any:
    """JSON has no NaN and no Infinity."""
    raise ValueError(f"{name} is not a JSON number")


def parse_json(data: bytes, where: str, error: type[GemcutError] = CheckpointError) -> Any:
    """JSON text in UTF-8 as Python values.

    Raises:
        GemcutError: (as `error`) it is not JSON, is nested too deeply, or repeats a key.
    """
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except RecursionError:
        raise error(f"{where}: its JSON is nested too deeply to be real.") from None
    except ValueError as problem:
        raise error(f"{where}: is not valid JSON ({problem}). The file is damaged or of another kind.") from None


def read_json(path: Path, max_bytes: int = MAX_JSON_BYTES, error: type[GemcutError] = CheckpointError) -> Any:
    """A JSON file of at most `max_bytes` bytes; raises as `read_bytes` and `parse_json` do."""
    return parse_json(read_bytes(path, max_bytes, error), path.name, error)


def json_bytes(value: Any) -> bytes:
    """A value as indented JSON in UTF-8, with a line break at the end."""
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8")


def map_file(path: Path, error: type[GemcutError] = CheckpointError) -> mmap.mmap | bytes:
    """A file's bytes as a read-only memory map; of an empty file the empty bytes.

    The mapping lives as long as something refers to it.

    Raises:
        NotFoundError: nothing is there.
        GemcutError: (as `error`) it is not a file, or the system refuses.
    """
    if not file_bytes(path, error):
        return b""
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror}). Check its permissions.") from None


def forget_pages(array: np.ndarray) -> None:
    """Give back the memory that reading an array of a memory map took; the bytes stay readable.

    Does nothing for other arrays.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    owner = owner.obj if isinstance(owner, memoryview) else owner
    if not isinstance(owner, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
        return
    begin = array.ctypes.data - np.frombuffer(owner, np.uint8).ctypes.data
    start = begin - begin % mmap.PAGESIZE
    owner.madvise(mmap.MADV_DONTNEED, start, begin + array.nbytes - start)


def sha256_of(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file, in lower-case hexadecimal.

    Args:
        path: The file.
        progress: Called after each chunk with the bytes done so far.

    Raises:
        NotFoundError: nothing is there.
        CheckpointError: it is not a file, or the system refuses.
    """
    file_bytes(path)
    digest, done = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                if progress:
                    progress(done)
    except OSError as problem:
        raise CheckpointError(f"{path}: cannot be read ({problem.strerror}). Check its permissions.") from None
    return digest.hexdigest()


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that other readers see the old content or the new, never a part.

    Raises:
        GemcutError: the disk is full, or the folder is missing or not writable; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as problem:
        raise GemcutError(
            f"{path}: could not be written ({problem.strerror}). Free space, or choose a folder that you may write to."
        ) from None


def atomic_write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file as `atomic_write_bytes` does."""
    atomic_write_bytes(path, text.encode("utf-8"))
