"""The models on this machine: those in the hubs' caches and in Gemcut's own, listed and removed."""

from __future__ import annotations

import dataclasses
import glob
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemcut.config import PUBLISHED
from gemcut.errors import GemcutError, NotFoundError, UsageError
from gemcut.hub.cache import cache_folder
from gemcut.hub.huggingface_client import import_client
from gemcut.hub.references import (
    Reference,
    complete_marker,
    gcs_place,
    huggingface_cache,
    kaggle_cache,
    parse_reference,
    repository_folder,
)
from gemcut.hub.transfer import UNFINISHED

if TYPE_CHECKING:
    from huggingface_hub import HFCacheInfo


@dataclasses.dataclass(frozen=True)
class LocalModel:
    """A model in one of the caches.

    Attributes:
        reference: What names it.
        path: Its folder.
        num_bytes: What its files take; a file that other revisions share counts in each.
        last_used: When one of its files was last read, in seconds since 1970; 0 when it has none.
        is_complete: False for what an interrupted download left.
    """

    reference: str
    path: Path
    num_bytes: int
    last_used: float
    is_complete: bool = True


@dataclasses.dataclass(frozen=True)
class Removal:
    """What removing a model would do; nothing is done until `execute`.

    Attributes:
        reference: The model.
        paths: The folders and files that go.
        num_bytes: What that frees; what other models share stays.
        execute: Does it.
    """

    reference: str
    paths: tuple[Path, ...]
    num_bytes: int
    execute: Callable[[], None]


def list_local_models() -> list[LocalModel]:
    """Every model in the caches of Hugging Face, Kaggle and Gemcut, in the order of their references."""
    found = [*_in_huggingface_cache(), *_in_kaggle_cache(), *_in_own_cache()]
    return sorted(found, key=lambda model: (model.reference, str(model.path)))


def plan_removal(reference: str | os.PathLike[str]) -> Removal:
    """What removing a model from its cache would take away.

    Args:
        reference: A model reference, but no path. Without a revision it means all revisions that are here.

    Raises:
        UsageError: it is malformed, or a path.
        NotFoundError: no cache holds it.
        MissingExtraError: it lies in the Hugging Face cache, and that hub's client is not installed.
    """
    parsed = parse_reference(reference)
    if parsed.kind == "path":
        raise UsageError(f"{parsed.text}: is a path; only what lies in a cache is removed. Remove the file yourself.")
    if parsed.kind == "published":
        parsed = _where_published(parsed)
    if parsed.kind == "huggingface":
        return _plan_huggingface(parsed)
    folder = {
        "kaggle": kaggle_cache() / "models" / parsed.name / (parsed.revision or ""),
        "gcs": gcs_place(parsed.name),
        "starter": cache_folder() / "starter",
    }[parsed.kind]
    unfinished = folder.parent.glob(f"{glob.escape(folder.name)}.*{UNFINISHED}")
    paths = [path for path in (folder, complete_marker(folder), *unfinished) if path.exists()]
    if not paths:
        raise _nothing_here(parsed, folder)
    files = [file for path in paths for file in _files(path)]
    return Removal(parsed.text, tuple(paths), _sizes(files), lambda: _remove(paths))


def _where_published(reference: Reference) -> Reference:
    """The hub's reference of a published model that is here; that of Hugging Face when it is nowhere."""
    model = PUBLISHED[reference.name]
    huggingface = dataclasses.replace(reference, kind="huggingface", name=model.huggingface)
    kaggle = dataclasses.replace(reference, kind="kaggle", name=model.kaggle or "")
    is_on_kaggle = model.kaggle is not None and (kaggle_cache() / "models" / model.kaggle).exists()
    if is_on_kaggle and not (huggingface_cache() / repository_folder(model.huggingface)).exists():
        return kaggle
    return huggingface


def _plan_huggingface(reference: Reference) -> Removal:
    """The removal that Hugging Face's client plans, which keeps what other revisions use."""
    folder = huggingface_cache() / repository_folder(reference.name)
    if not folder.is_dir():
        raise _nothing_here(reference, folder)
    if not any(folder.glob("snapshots/*/*")):  # a download that ended before its first file
        return Removal(reference.text, (folder,), _sizes(_files(folder)), lambda: _remove([folder]))
    cache, repo = _scanned(reference.name, folder)
    wanted = [
        revision
        for revision in repo.revisions
        if reference.revision is None or reference.revision in (revision.commit_hash, *revision.refs)
    ]
    files = [
        file
        for revision in wanted
        for file in revision.files
        if reference.file in (None, file.file_path.relative_to(revision.snapshot_path).as_posix())
    ]
    if not files:
        raise _nothing_here(reference, folder)
    if len(files) < sum(len(revision.files) for revision in wanted):
        strategy = cache.delete_files(*files)
    else:
        strategy = cache.delete_revisions(*(revision.commit_hash for revision in wanted))
    paths = (*strategy.repos, *strategy.snapshots, *strategy.files)
    return Removal(reference.text, tuple(sorted(paths)), strategy.expected_freed_size, strategy.execute)


def _scanned(name: str, folder: Path) -> tuple[HFCacheInfo, Any]:
    """The client's view of one repository, alone so that a fork with the same commits is not meant too."""
    cache = import_client().scan_cache_dir(huggingface_cache())
    for repo in cache.repos:
        if repo.repo_id == name and repo.repo_type == "model":
            return dataclasses.replace(cache, repos=frozenset([repo])), repo
    reason = next((str(warning) for warning in cache.warnings if str(folder) in str(warning)), "no reason given")
    raise GemcutError(
        f"{folder}: Hugging Face's client cannot make sense of it ({reason}). Remove the folder yourself."
    )


def _in_huggingface_cache() -> Iterator[LocalModel]:
    for folder in sorted(huggingface_cache().glob("models--*--*")):
        name = "hf:" + "/".join(folder.name.split("--")[1:])
        refs = {ref: ref.read_text(encoding="utf-8").strip() for ref in _files(folder / "refs")}
        names = {commit: ref.relative_to(folder / "refs").as_posix() for ref, commit in sorted(refs.items())}
        snapshots = sorted(path for path in folder.glob("snapshots/*") if any(_files(path)))
        for snapshot in snapshots:
            revision = names.get(snapshot.name, snapshot.name)
            reference = name if revision == "main" else f"{name}@{revision}"
            yield _described(reference, snapshot)
        if not snapshots:
            yield _described(name, folder, is_complete=False)


def _in_kaggle_cache() -> Iterator[LocalModel]:
    root = kaggle_cache() / "models"
    for folder in sorted(path for path in root.glob("*/*/*/*/*") if path.is_dir()):
        is_complete = complete_marker(folder).exists()
        yield _described(f"kaggle:{folder.relative_to(root).as_posix()}", folder, is_complete=is_complete)


def _in_own_cache() -> Iterator[LocalModel]:
    if any(_files(starter := cache_folder() / "starter")):
        yield _described("starter", starter)
    root = gcs_place("")
    places = [path for path in sorted(root.rglob("*")) if complete_marker(path).exists()]
    for place in places:
        yield _described(f"gs://{place.relative_to(root).as_posix()}", place)
    # What an interrupted download left: the topmost folders with files that belong to no place.
    owners = {*places, *(place.parent for place in places if place.is_file())}
    loose = {file.parent for file in _files(root) if file.suffix != ".complete"} - owners
    for folder in sorted(loose):
        if not (owners | loose).intersection(folder.parents):
            yield _described(f"gs://{folder.relative_to(root).as_posix()}", folder, is_complete=False)


def _described(reference: str, folder: Path, *, is_complete: bool = True) -> LocalModel:
    files = _files(folder)
    last_used = max((file.stat().st_atime for file in files), default=0.0)
    return LocalModel(reference, folder, _sizes(files), last_used, is_complete)


def _files(path: Path) -> list[Path]:
    """The files at or below a path; what points nowhere is left out."""
    return [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]


def _sizes(files: Iterable[Path]) -> int:
    return sum({file.resolve(): file.stat().st_size for file in files}.values())


def _remove(paths: Iterable[Path]) -> None:
    """Remove files and folders, all of which lie in a cache."""
    caches = [huggingface_cache(), kaggle_cache(), cache_folder()]
    for path in paths:
        assert any(cache.absolute() in path.absolute().parents for cache in caches), path
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as problem:
            raise GemcutError(
                f"{problem.filename or path}: could not be removed ({problem.strerror}). Check its permissions."
            ) from None


def _nothing_here(reference: Reference, place: Path) -> NotFoundError:
    return NotFoundError(
        f"{reference.text}: not on this machine (looked in {place}), so there is nothing to remove. "
        "List what is: gemcut models"
    )
