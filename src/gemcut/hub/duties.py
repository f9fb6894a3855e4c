"""What a licence asks of whoever passes a model on: written beside what Gemcut makes, and checked."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gemcut.config import Licence
from gemcut.files import atomic_write_bytes, read_bytes
from gemcut.hub.cache import cache_folder
from gemcut.hub.licence_finding import MAX_TEXT_BYTES, LicenceFinding, is_alone, licence_files, read_text
from gemcut.hub.licences import Terms, flat, is_copy, licence_of_published, terms_of
from gemcut.hub.model_card import MODEL_CARD
from gemcut.hub.references import handle_of
from gemcut.hub.starter import STARTER_BASE, copy_of_gemma_terms

MODIFICATIONS = "MODIFICATIONS.md"
# Our keys of a GGUF file, which has none of its own for these.
NOTICE_KEY, MODIFICATIONS_KEY = "gemcut.notice", "gemcut.modifications"
_HEADING = "# Modifications"
_APACHE_TEXT = Path(__file__).with_name("apache-2.0.txt")


@dataclasses.dataclass(frozen=True)
class Duty:
    """One thing that a licence asks for.

    Attributes:
        name: What, in a few words.
        met: Whether it is there.
        detail: Where it is; or what to do.
    """

    name: str
    met: bool
    detail: str


def write_duties(
    target: Path,
    licence: Licence | None,
    *,
    base: str | None,
    modifications: Sequence[str],
    source: Path | None = None,
    source_metadata: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write what the licence asks for into a model's folder, or beside a single file under its name.

    Args:
        target: The folder, or the file (a GGUF file), that was made. The rest is as in `duty_files`.

    Returns:
        The files written.

    Raises:
        GemcutError: a file cannot be written.
    """
    folder, file_name = (target, "") if target.is_dir() else (target.parent, target.name)
    files = duty_files(
        licence,
        base=base,
        modifications=modifications,
        source=source,
        source_metadata=source_metadata,
        file_name=file_name,
    )
    for name, content in files.items():
        atomic_write_bytes(folder / name, content)
    return [folder / name for name in files]


def duty_files(
    licence: Licence | None,
    *,
    base: str | None,
    modifications: Sequence[str],
    source: Path | None = None,
    source_metadata: Mapping[str, Any] | None = None,
    file_name: str = "",
) -> dict[str, bytes]:
    """Name and content of the files that a licence asks for beside a model that was made from another.

    The notice that recipients must find, what they must be told, which changes were made, and a copy of the licence
    where one is at hand: beside the source, in the starter's package, or in the folder `licences` of Gemcut's cache.
    `check_duties` tells whether anything is left.

    Args:
        licence: What `licence_of` found of the source; None where nothing told.
        base: The published model it was made from; None where nothing told.
        modifications: What was done, each in a line; empty when nothing changed.
        source: What it was made from; its notices and its record of changes are handed on.
        source_metadata: The keys of the source when it is a GGUF file.
        file_name: Name of the single file (a GGUF file) that was made; empty for a folder.
    """
    terms = terms_of(licence)
    changes = _all_changes(modifications, source, source_metadata)
    handed_on = [] if source is None else licence_files(source)
    notice = _notice(terms, handed_on) if terms and terms.notice else ""
    record = _record(base, changes) if changes else ""
    if file_name:
        texts = {f"{file_name}.Notice.txt": "\n".join(filter(None, (notice, record)))}
    else:
        texts = {"Notice": notice, MODIFICATIONS: record}
    files = {name: text.encode("utf-8") for name, text in texts.items() if text}
    prefix = file_name + "." if file_name else ""
    for name, path in _texts_to_copy(terms, handed_on, source).items():
        files.setdefault(prefix + name, read_bytes(path, MAX_TEXT_BYTES))
    return files


def duties_metadata(
    licence: Licence | None,
    *,
    base: str | None,
    modifications: Sequence[str],
    source: Path | None = None,
    source_metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The keys that carry licence, base and changes inside a GGUF file; arguments as in `write_duties`."""
    keys: dict[str, Any] = {}
    if licence is not None:
        terms = terms_of(licence)
        keys |= {"general.license": terms.identifiers[0] if terms else licence.name}
        keys["general.license.name"] = licence.name
        if licence.url:
            keys["general.license.link"] = licence.url
        if terms and terms.notice:
            keys[NOTICE_KEY] = terms.notice
    if base is not None:
        owner, _, name = base.rpartition("/")
        keys |= {"general.base_model.count": 1, "general.base_model.0.name": name}
        if owner:
            keys["general.base_model.0.organization"] = owner
        if base.count("/") == 1:
            keys["general.base_model.0.repo_url"] = f"https://huggingface.co/{base}"
    if changes := _all_changes(modifications, source, source_metadata):
        keys[MODIFICATIONS_KEY] = changes
    return keys


def check_duties(path: Path, finding: LicenceFinding, metadata: Mapping[str, Any] | None = None) -> list[Duty]:
    """What the licence of a model asks for, each with whether it is there.

    Args:
        path: The model's file or folder.
        finding: What `licence_of` found of it.
        metadata: The keys of a GGUF file.

    Raises:
        CheckpointError: a text file beside it is unreadable.
    """
    duties = [_known(finding)]
    if finding.licence is None:
        return duties
    if finding.conflicts:
        todo = f"Correct what contradicts the {finding.licence.name}: {'; '.join(finding.conflicts)}."
        duties.append(Duty("nothing else claimed", False, todo))
    terms = terms_of(finding.licence)
    if terms is None:
        todo = f"Gemcut does not know what {finding.licence.name} asks for. Read {finding.licence.url or 'its text'}."
        return [*duties, Duty("duties known", False, todo)]
    return [*duties, *_terms_duties(path, terms, metadata or {})]


def _known(finding: LicenceFinding) -> Duty:
    """The first item: which licence it is."""
    if finding.licence is not None:
        return Duty("licence known", True, f"{finding.licence.name} ({'; '.join(finding.evidence)})")
    if finding.conflicts:
        return Duty("licence known", False, f"Its sources contradict each other: {'; '.join(finding.conflicts)}.")
    todo = f"Name the model it was made from in the head of {MODEL_CARD}: base_model: ORG/REPO"
    return Duty(
        "licence known", False, todo + (f" (found only: {'; '.join(finding.evidence)})." * bool(finding.evidence))
    )


def _terms_duties(path: Path, terms: Terms, metadata: Mapping[str, Any]) -> Iterator[Duty]:
    texts = {file.name: read_text(file) for file in licence_files(path)}
    copies = [name for name, text in texts.items() if is_copy(text, terms)]
    others = {name: flat(text) for name, text in texts.items() if name not in copies}
    if terms.notice:
        holders = [name for name, text in others.items() if flat(terms.notice) in text and "notice" in name.lower()]
        todo = f'Add a text file "Notice" with this sentence: {terms.notice}'
        yield Duty("notice", bool(holders), holders[0] if holders else todo)
    todo = (
        f"Save {terms.licence.url} beside it as {_copy_name(terms)}; "
        f"saved in {cache_folder() / 'licences'}, Gemcut copies it from then on."
    )
    yield Duty("copy of the licence", bool(copies), copies[0] if copies else todo)
    if terms.told:
        card = (path if path.is_dir() else path.parent) / MODEL_CARD
        if card.is_file() and (path.is_dir() or is_alone(path)):
            others[MODEL_CARD] = flat(read_text(card))
        told = [name for name, text in others.items() if all(flat(mark) in text for mark in terms.told)]
        todo = f"Tell recipients, for example in Notice: {' '.join(terms.restrictions)}"
        yield Duty("use restrictions told", bool(told), told[0] if told else todo)
    where = _original(path) or _recorded(path, metadata)[0]
    todo = f"State in {MODIFICATIONS} what was changed, by whom and when."
    yield Duty("record of changes", bool(where), where or todo)


def _original(path: Path) -> str:
    """That files lie in a hub's cache as they were published; empty where they do not."""
    handle = handle_of(path)
    is_original = handle and licence_of_published(handle) and handle != STARTER_BASE
    return f"none made: {handle} as published" if is_original else ""


def modifications_of(source: Path, metadata: Mapping[str, Any] | None = None) -> list[str]:
    """The changes that a model's own record states, oldest first.

    Raises:
        CheckpointError: the record is unreadable.
    """
    return _recorded(source, metadata or {})[1]


def _recorded(path: Path, metadata: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Where the changes to a model are stated, and those changes; an empty word and none where they are not."""
    stated = metadata.get(MODIFICATIONS_KEY)
    if isinstance(stated, list) and stated:
        return f"{MODIFICATIONS_KEY} in the file", [str(change) for change in stated]
    record = (path if path.is_dir() else path.parent) / MODIFICATIONS
    records = {MODIFICATIONS: read_text(record)} if record.is_file() and (path.is_dir() or is_alone(path)) else {}
    records |= {file.name: read_text(file).partition(_HEADING)[2] for file in licence_files(path)}
    return next(((name, changes) for name, text in records.items() if (changes := changes_in(text))), ("", []))


def changes_in(text: str) -> list[str]:
    """The lines of a record that state a change."""
    return [line.removeprefix("- ").strip() for line in text.splitlines() if line.startswith("- ")]


def _all_changes(modifications: Sequence[str], source: Path | None, metadata: Mapping[str, Any] | None) -> list[str]:
    stamp = f"Gemcut {importlib.metadata.version('gemcut')}, {datetime.datetime.now(datetime.UTC).date()}"
    earlier = modifications_of(source, metadata) if source is not None else []
    return [*earlier, *(f"{change} ({stamp})" for change in modifications)]


def _record(base: str | None, changes: Sequence[str]) -> str:
    origin = f"the files of {base}" if base else "files whose origin they do not state"
    lines = "\n".join(f"- {change}" for change in changes)
    return f"{_HEADING}\n\nThese files are modified: they were made from {origin}.\n\n{lines}\n"


def _notice(terms: Terms, handed_on: Sequence[Path]) -> str:
    """The sentence that the licence prescribes, what recipients have to be told, and earlier authors' own notices."""
    text = "\n\n".join((terms.notice, *terms.restrictions)) + "\n"
    for file in handed_on:
        earlier = read_text(file).partition(_HEADING)[0]
        if "notice" in file.name.lower() and (rest := earlier.removeprefix(text).strip()):
            text += f"\n{rest}\n"
    return text


def _copy_name(terms: Terms) -> str:
    return "LICENSE" if not terms.restrictions else terms.licence.name.replace(" ", "_")


def _texts_to_copy(terms: Terms | None, handed_on: Sequence[Path], source: Path | None) -> dict[str, Path]:
    """The source's licence files, and the licence itself from elsewhere when it is not among them."""
    own = "" if source is None or source.is_dir() else source.name + "."
    # A notice of ours is written anew; others go on as they are, or inside ours.
    is_rewritten = bool(terms and terms.notice)
    chosen = {
        file.name.removeprefix(own): file
        for file in handed_on
        if not ("notice" in file.name.lower() and (is_rewritten or _HEADING in read_text(file)))
    }
    has_copy = terms is None or any(is_copy(read_text(file), terms) for file in chosen.values())
    if terms and not has_copy and (copy := _copy_at_hand(terms)):
        chosen[_copy_name(terms) + copy.suffix * (copy != _APACHE_TEXT)] = copy
    return chosen


def _copy_at_hand(terms: Terms) -> Path | None:
    """A copy of the licence on this machine."""
    kept = cache_folder() / "licences"
    candidates = [_APACHE_TEXT, copy_of_gemma_terms(), *(sorted(kept.iterdir()) if kept.is_dir() else ())]
    return next((file for file in candidates if file and file.is_file() and is_copy(read_text(file), terms)), None)
