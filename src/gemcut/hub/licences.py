"""Licence terms, shown to the user once."""

from __future__ import annotations

import datetime
import json
import re
import sys
from pathlib import Path

from gemcut.config import Licence
from gemcut.files import atomic_write_text
from gemcut.hub.cache import cache_folder, make_cache_folder


def show_terms_once(licence: Licence, what: str, copy: Path | None = None) -> None:
    """Tell on standard error which terms `what` comes under, unless this cache records that it was told.

    Args:
        licence: The terms.
        what: The model, in words that begin a sentence.
        copy: A copy of the terms on this machine; None when there is none.

    Raises:
        GemcutError: the record cannot be written.
    """
    record = cache_folder() / "licences" / (re.sub(r"\W+", "-", licence.name.lower()) + ".json")
    if record.is_file():
        return
    where = licence.url if copy is None else f"{licence.url} (a copy: {copy})"
    print(  # noqa: T201
        f"{what} is provided under and subject to the {licence.name} found at {where}. Using it means accepting them, "
        "their use restrictions included. This notice is shown once.",
        file=sys.stderr,
    )
    make_cache_folder("licences")
    shown = {"licence": licence.name, "url": licence.url, "what": what, "shown": _now()}
    atomic_write_text(record, json.dumps(shown, indent=2) + "\n")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
