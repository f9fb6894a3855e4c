"""Gemcut's own cache folder."""

from __future__ import annotations

import os
from pathlib import Path

from gemcut.errors import GemcutError


def cache_folder() -> Path:
    """Where Gemcut keeps what it made: $GEMCUT_CACHE, else gemcut inside $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("GEMCUT_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "gemcut"


def make_cache_folder(name: str) -> Path:
    """The folder `name` inside the cache, made if it is not there.

    Raises:
        GemcutError: it cannot be made or written.
    """
    folder = cache_folder() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    if not os.access(folder, os.W_OK):
        raise unwritable(folder, None)
    return folder


def unwritable(folder: Path, error: OSError | None) -> GemcutError:
    """The error for a cache folder that cannot be written."""
    reason = error.strerror if error and error.strerror else "permission denied"
    return GemcutError(
        f"{folder}: the cache folder cannot be written ({reason}). Name a writable folder in GEMCUT_CACHE."
    )
