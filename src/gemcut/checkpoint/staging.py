"""Writing beside a target and becoming it in one step, so that a kill leaves nothing that loads."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from gemcut.errors import GemcutError, NotFoundError, UsageError

_UNFINISHED, _REPLACED = "unfinished", "replaced"


@contextlib.contextmanager
def staged(target: Path, *, is_folder: bool, overwrite: bool, num_bytes: int) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes it when the block ends, and is removed when it fails.

    Whoever writes holds a lock on it; what a killed process left behind has none, and goes when the same target is
    written again.

    Args:
        target: Where the result goes; its folder exists.
        is_folder: Whether the target is a folder; else it is the file of its name inside the temporary one, and other
            files there go beside it.
        overwrite: Replace what is there.
        num_bytes: Space that the result takes, checked first.

    Raises:
        NotFoundError: the target's folder is missing.
        UsageError: something is there already, or is not what may be replaced.
        GemcutError: there is not enough space, or the system refuses to write.
    """
    check_target(target, is_folder=is_folder, overwrite=overwrite)
    try:
        _remove_leftovers(target)
        _check_space(target, num_bytes)
        temporary = _sibling(target, _UNFINISHED)
        temporary.mkdir()
        with _lock(temporary):
            try:
                yield temporary
                _replace(temporary, target) if is_folder else _move_out(temporary, target)
                _sync(target.parent)
            finally:
                _remove(temporary)
    except OSError as problem:
        raise GemcutError(
            f"{target}: could not be written ({problem.strerror}); nothing is left of it. Free space, or choose a "
            "folder that you may write to."
        ) from None


def check_target(target: Path, *, is_folder: bool, overwrite: bool) -> None:
    """Refuse a target that cannot be written or should not be replaced; errors as of `staged`."""
    if target.name in ("", ".."):
        raise UsageError(f"{target}: has no name of its own, expected a path that ends in one. Name what to make.")
    if not target.parent.is_dir():
        raise NotFoundError(f"{target.parent}: no such folder. Create it, or choose another one.")
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise UsageError(f"{target}: is there already. Choose another name, or replace it with --overwrite.")
    if target.is_symlink() or target.is_dir() != is_folder:
        found = "a link" if target.is_symlink() else "a folder" if target.is_dir() else "a file"
        wanted = "folder" if is_folder else "file"
        raise UsageError(f"{target}: is {found}, expected a {wanted} to overwrite. Choose another name.")
    if is_folder and any(target.iterdir()) and not _is_model_folder(target):
        raise UsageError(
            f"{target}: holds other things than a model, expected config.json or a GGUF file, and no folders inside. "
            "It is not overwritten; choose another name."
        )


def _is_model_folder(folder: Path) -> bool:
    entries = list(folder.iterdir())
    return all(entry.is_file() for entry in entries) and any(
        entry.name == "config.json" or entry.suffix == ".gguf" for entry in entries
    )


def _sibling(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(8)}.{kind}")


def _check_space(target: Path, num_bytes: int) -> None:
    free_bytes = shutil.disk_usage(target.parent).free
    if free_bytes < num_bytes:
        raise GemcutError(
            f"{target}: needs {num_bytes:,} bytes, but only {free_bytes:,} are free there. Free space, or choose "
            "another folder."
        )


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold `path` for this process; BlockingIOError when another one does."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _remove_leftovers(target: Path) -> None:
    """Remove what killed conversions to the same target left; put back what one was just replacing."""
    pattern = re.compile(re.escape(f".{target.name}.") + rf"[0-9a-f]{{16}}\.({_UNFINISHED}|{_REPLACED})")
    for entry in list(target.parent.iterdir()):
        if not (match := pattern.fullmatch(entry.name)):
            continue
        with contextlib.suppress(BlockingIOError), _lock(entry):
            if match[1] == _REPLACED and not os.path.lexists(target):
                entry.rename(target)
            else:
                _remove(entry)


def _replace(temporary: Path, target: Path) -> None:
    """Rename a folder to `target`; a folder there steps aside first, as a folder cannot replace another."""
    _sync(temporary)
    aside = None
    if target.is_dir():
        aside = _sibling(target, _REPLACED)
        target.rename(aside)
    temporary.rename(target)
    if aside is not None:
        _remove(aside)


def _move_out(temporary: Path, target: Path) -> None:
    """Move a folder's files beside one another to where `target` goes, and that one last."""
    for file in sorted(temporary.iterdir(), key=lambda file: file.name == target.name):
        file.replace(target.with_name(file.name))


def _sync(folder: Path) -> None:
    """Wait until a folder's entries are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
