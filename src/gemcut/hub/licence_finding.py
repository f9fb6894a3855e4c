"""Which licence a model at hand comes under: decided by what it was made from, never by its shape."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gemcut.config import Licence
from gemcut.errors import CheckpointError
from gemcut.files import read_bytes, read_json
from gemcut.hub.licences import TERMS, flat, is_copy, licence_named, licence_of_published
from gemcut.hub.model_card import MODEL_CARD, read_model_card
from gemcut.hub.references import handle_of

MAX_TEXT_BYTES = 4 * 1024 * 1024
_MAX_BASES = 100
_LICENCE_FILE = re.compile(r"(.*licen[cs]e|notice|copying|.*terms|.*use_policy)([._-].*)?", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class LicenceFinding:
    """Which licence a model comes under, and why that is thought.

    Attributes:
        licence: The licence; None when nothing tells it, or the sources contradict each other.
        base: The published model it was made from, or is; None when nothing tells.
        evidence: What was found where, in words.
        conflicts: What contradicts the licence, or each other, in words.
    """

    licence: Licence | None
    base: str | None
    evidence: tuple[str, ...]
    conflicts: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Claim:
    """What one source says: of a base, or of the licence itself."""

    words: str
    licence: Licence | None
    base: str | None = None


def licence_of(path: Path, metadata: Mapping[str, Any] | None = None) -> LicenceFinding:
    """Which licence the model at `path` comes under, by what it says itself; never by its shape.

    What says which model it was made from decides; only where nothing does, what states a licence.

    Args:
        path: A file or folder.
        metadata: The keys of a GGUF file.

    Raises:
        CheckpointError: a text file beside it is damaged.
    """
    claims = list(_claims(path, metadata or {}))
    bases = [claim for claim in claims if claim.base and claim.licence]
    deciding = bases or [claim for claim in claims if claim.licence]
    licences = {claim.licence for claim in deciding}
    licence = licences.pop() if len(licences) == 1 else None
    conflicts = [claim for claim in claims if claim.licence and claim.licence != licence]
    named = bases or [claim for claim in claims if claim.base]
    return LicenceFinding(
        licence,
        named[0].base if named else None,
        tuple(claim.words for claim in claims),
        tuple(claim.words for claim in conflicts),
    )


def _claims(path: Path, metadata: Mapping[str, Any]) -> Iterator[_Claim]:
    """Everything at `path` that says what the model was made from or what it comes under."""
    if handle := handle_of(path):
        yield _based(f"its place in the cache says {handle}", handle)
    yield from _gguf_claims(metadata)
    if path.is_dir() or is_alone(path):
        yield from _folder_claims(path if path.is_dir() else path.parent)
    for file in licence_files(path):
        yield from _text_claims(file)


def is_alone(file: Path) -> bool:
    """Whether a folder belongs to this model: not one where GGUF files of several lie side by side."""
    return file.suffix != ".gguf" or len(list(file.parent.glob("*.gguf"))) == 1


def _based(words: str, base: str) -> _Claim:
    return _Claim(words, licence_of_published(base), base)


def _stated(settings: Mapping[str, Any], key: str, name_key: str, where: str) -> Iterator[_Claim]:
    """What a model states as its licence; its own name for it counts only where there is no usual one."""
    stated = settings.get(key)
    if name_key in settings and stated in (None, "other"):
        key, stated = name_key, settings[name_key]
    if stated:
        yield _Claim(f"{where}{key}: {stated}", licence_named(str(stated)) or Licence(str(stated), ""))


def _gguf_claims(metadata: Mapping[str, Any]) -> Iterator[_Claim]:
    count = metadata.get("general.base_model.count")
    for index in range(min(count, _MAX_BASES) if isinstance(count, int) else 0):
        key = f"general.base_model.{index}"
        owner, name = metadata.get(f"{key}.organization"), metadata.get(f"{key}.name")
        if base := metadata.get(f"{key}.repo_url") or (f"{owner}/{name}" if owner and name else name):
            yield _based(f"{key}: {base}", str(base).removeprefix("https://huggingface.co/"))
    yield from _stated(metadata, "general.license", "general.license.name", "")


def _folder_claims(folder: Path) -> Iterator[_Claim]:
    card = read_model_card(folder)
    for base in card.get("base_model", []):
        yield _based(f"{MODEL_CARD}: base_model: {base}", base)
    first = {key: values[0] for key, values in card.items()}
    yield from _stated(first, "license", "license_name", f"{MODEL_CARD}: ")
    for name, key in (("config.json", "_name_or_path"), ("adapter_config.json", "base_model_name_or_path")):
        settings = read_json(folder / name) if (folder / name).is_file() else {}
        origin = settings.get(key) if isinstance(settings, dict) else None
        if isinstance(origin, str) and licence_of_published(origin):
            yield _based(f"{name}: {key}: {origin}", origin)


def _text_claims(file: Path) -> Iterator[_Claim]:
    text = read_text(file)
    for terms in TERMS:
        if terms.notice and flat(terms.notice) in flat(text):
            yield _Claim(f"{file.name}: the notice of the {terms.licence.name}", terms.licence)
        if is_copy(text, terms):
            yield _Claim(f"{file.name}: the text of {terms.licence.name}", terms.licence)


def licence_files(path: Path) -> list[Path]:
    """The files that by their name hold a licence, terms, a notice or a policy.

    Of a folder those in it. Of a file those whose name begins with its own, model.gguf.Notice.txt, and those of its
    folder if no other model lies there.

    Raises:
        CheckpointError: the folder cannot be read.
    """
    folder, own = (path, "") if path.is_dir() else (path.parent, path.name + ".")
    try:
        files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    except OSError as problem:
        raise CheckpointError(f"{folder}: cannot be read ({problem.strerror}). Check its permissions.") from None
    found = [file for file in files if file.name.startswith(own) and _LICENCE_FILE.fullmatch(file.name[len(own) :])]
    return found if path.is_dir() or not is_alone(path) else [*found, *licence_files(folder)]


def read_text(file: Path) -> str:
    """A licence file's text; bytes that are not UTF-8 are replaced.

    Raises:
        CheckpointError: it is larger than any licence, or unreadable.
    """
    return read_bytes(file, MAX_TEXT_BYTES, CheckpointError).decode("utf-8", errors="replace")
