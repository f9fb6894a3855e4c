"""The models on this machine, each with its size, format and licence."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from gemcut.checkpoint.checkpoint import weights_format
from gemcut.errors import GemcutError
from gemcut.hub import licence_of, list_local_models


def list_models() -> list[dict[str, Any]]:
    """What the hubs' caches and Gemcut's own hold.

    Returns:
        JSON-able rows: reference, path, size_bytes, format (None where it is not one that Gemcut reads), licence (None
        where nothing tells), last_used (ISO 8601, UTC; None for an empty folder) and complete.
    """
    return [
        {
            "reference": model.reference,
            "path": str(model.path),
            "size_bytes": model.num_bytes,
            "format": _format(model.path) if model.is_complete else None,
            "licence": _licence(model.path) if model.is_complete else None,
            "last_used": _moment(model.last_used) if model.last_used else None,
            "complete": model.is_complete,
        }
        for model in list_local_models()
    ]


def _format(folder: Path) -> str | None:
    """The format of a folder's weights; a listing names damaged and unknown ones too, without one."""
    try:
        return weights_format(folder)
    except GemcutError:
        return None


def _licence(folder: Path) -> str | None:
    try:
        licence = licence_of(folder).licence
    except GemcutError:
        return None
    return licence.name if licence else None


def _moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
