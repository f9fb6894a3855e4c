"""Which licence a model comes under, what that allows, and whether everything it asks for is there."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gemcut.checkpoint.gguf_file import MAGIC, read_gguf
from gemcut.config import Licence
from gemcut.errors import CheckpointError
from gemcut.hub import adapter_of, check_duties, licence_of, resolve, terms_of


def check_licence(reference: str | os.PathLike[str]) -> dict[str, Any]:
    """What passing a model on takes by its licence, and what of that is missing.

    Args:
        reference: Any model reference; a folder may hold an adapter only. Of "starter-it" it is the adapter.

    Returns:
        A JSON-able dict: path, licence (as `licence_facts`), base, evidence, conflicts, duties (a list of name, met,
        detail) and complete.

    Raises:
        NotFoundError: it is not on this machine.
        CheckpointError: a file of it is unreadable.
    """
    path = adapter_of(reference) or resolve(reference)
    metadata = _gguf_keys(path)
    finding = licence_of(path, metadata)
    duties = check_duties(path, finding, metadata)
    return {
        "path": str(path),
        "licence": licence_facts(finding.licence),
        "base": finding.base,
        "evidence": list(finding.evidence),
        "conflicts": list(finding.conflicts),
        "duties": [dataclasses.asdict(duty) for duty in duties],
        "complete": all(duty.met for duty in duties),
    }


def licence_facts(licence: Licence | None) -> dict[str, Any] | None:
    """Name, address, openness ("open source", "open weights" or None) and, in a line, what a licence allows."""
    if licence is None:
        return None
    terms = terms_of(licence)
    return {
        "name": licence.name,
        "url": licence.url,
        "openness": terms.openness if terms else None,
        "allowed": terms.allowed if terms else None,
    }


def _gguf_keys(path: Path) -> Mapping[str, Any] | None:
    """The keys of a GGUF file, or of the one in a folder; None where there is none."""
    files = sorted(path.glob("*.gguf")) if path.is_dir() else [path]
    if path.is_dir() and len(files) != 1:
        return None
    try:
        with open(files[0], "rb") as file:
            is_gguf = file.read(len(MAGIC)) == MAGIC
    except OSError as problem:
        raise CheckpointError(f"{files[0]}: cannot be read ({problem.strerror}). Check its permissions.") from None
    return read_gguf(files[0])[0] if is_gguf else None
