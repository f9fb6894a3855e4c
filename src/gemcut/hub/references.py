"""Model references: what a user may write to name a model, and where it lies on this machine."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

from gemcut.config import PUBLISHED, close_names
from gemcut.errors import NotFoundError, UsageError
from gemcut.hub.cache import cache_folder
from gemcut.hub.starter import STARTER_BASE, starter_it_adapter, starter_path

# Names that `gemcut` understands as commands, now or by its contract; a model folder of that name needs a path.
COMMAND_NAMES = frozenset(
    "run chat pull models show rm convert calibrate verify plan check-licence tune eval serve bench doctor".split()
)

_HF_FORM = "hf:ORG/REPO[/FILE][@REVISION]"
_KAGGLE_FORM = "kaggle:OWNER/MODEL/FRAMEWORK/VARIATION[/VERSION]"
_GCS_FORM = "gs://BUCKET/PATH"
_PART = r"[A-Za-z0-9_][\w.\-]*"
_HF = re.compile(
    rf"hf:(?P<name>{_PART}/{_PART})(?:/(?P<file>{_PART}(?:/{_PART})*))?(?:@(?P<revision>{_PART}(?:/{_PART})*))?"
)
_KAGGLE = re.compile(rf"kaggle:(?P<name>{_PART}(?:/{_PART}){{3}})(?:/(?P<revision>[0-9]+))?")
_GCS = re.compile(rf"gs://(?P<name>{_PART}(?:/{_PART})+)/?")


@dataclasses.dataclass(frozen=True)
class Reference:
    """A model as the user named it.

    Attributes:
        kind: "starter", "published", "huggingface", "kaggle", "gcs" or "path".
        text: What the user wrote.
        name: The name, repository, handle, bucket path or file path, without prefix and revision.
        file: One file inside a Hugging Face repository; None for the whole.
        revision: Branch, tag or commit (Hugging Face), version number (Kaggle); None for the newest.
    """

    kind: str
    text: str
    name: str
    file: str | None = None
    revision: str | None = None


def parse_reference(text: str | os.PathLike[str]) -> Reference:
    """What `text` refers to; nothing is looked up but whether a path of that name exists.

    A published name wins over a file of that name in the current folder, and so does a command's name;
    write ./NAME for the file.

    Raises:
        UsageError: the form is none of those known.
        NotFoundError: a bare word that is neither a known name nor a path.
    """
    if not isinstance(text, str):
        return Reference("path", os.fspath(text), os.fspath(text))
    if not text.strip():
        raise UsageError("The model reference is empty. Name a model, such as starter, or give a path.")
    for kind, prefix, pattern, form in (
        ("huggingface", "hf:", _HF, _HF_FORM),
        ("kaggle", "kaggle:", _KAGGLE, _KAGGLE_FORM),
        ("gcs", "gs://", _GCS, _GCS_FORM),
    ):
        if text.startswith(prefix):
            match = pattern.fullmatch(text)
            if match is None:
                raise UsageError(f"{text}: not a reference of the form {form}.")
            return Reference(kind, text, **match.groupdict())
    if text in ("starter", "starter-it"):
        return Reference("starter", text, text)
    if text in PUBLISHED:
        return Reference("published", text, text)
    if text.startswith(("~", ".")) or "/" in text or os.sep in text:
        return Reference("path", text, text)
    if Path(text).exists() and text not in COMMAND_NAMES:
        return Reference("path", text, text)
    raise _unknown(text)


def resolve(reference: str | os.PathLike[str] | Reference) -> Path:
    """The file or folder on this machine that `reference` means. Nothing is downloaded.

    Hugging Face and Kaggle references are looked up where those hubs' own clients keep their downloads.

    Raises:
        UsageError: the reference is malformed.
        NotFoundError: it is not on this machine; the message names the command that gets it.
    """
    if not isinstance(reference, Reference):
        reference = parse_reference(reference)
    match reference.kind:
        case "starter":
            adapter_of(reference)
            return starter_path()
        case "published":
            return _resolve_published(reference)
        case "huggingface":
            found = _in_huggingface_cache(reference.name, reference.file, reference.revision)
            place = huggingface_cache() / repository_folder(reference.name)
        case "kaggle":
            found = _in_kaggle_cache(reference.name, reference.revision)
            place = kaggle_cache() / "models" / reference.name
        case "gcs":
            place = gcs_place(reference.name)
            found = place if complete_marker(place).exists() else None
        case _:
            return _resolve_path(reference)
    if found is None:
        raise _not_here(reference, str(place))
    return found


def adapter_of(reference: str | os.PathLike[str] | Reference) -> Path | None:
    """The folder of the adapter that belongs to a reference beside the file that `resolve` gives; None for most.

    Raises:
        NotFoundError: it is not on this machine.
    """
    name = reference.text if isinstance(reference, Reference) else os.fspath(reference)
    return starter_it_adapter() if name == "starter-it" else None


def resolve_whole(reference: str | os.PathLike[str]) -> Path:
    """What `resolve` gives, of a model that is all there.

    Raises:
        UsageError: an adapter belongs to it, which who works on the weights themselves would leave out.
    """
    if adapter_of(reference) is not None:
        raise UsageError(
            f"{reference}: is a model and an adapter beside it, where a single one is needed. Take the model alone, "
            f"starter, or merge them: gemcut convert {reference} FOLDER --to hf"
        )
    return resolve(reference)


def huggingface_cache() -> Path:
    """The download cache of Hugging Face's client.

    Source: huggingface_hub 2.4, constants (HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME).
    """
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser() / "hub"
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "huggingface" / "hub"


def kaggle_cache() -> Path:
    """The download cache of Kaggle's client.

    Source: kagglehub 1.0, config (KAGGLEHUB_CACHE).
    """
    own = os.environ.get("KAGGLEHUB_CACHE")
    return Path(own).expanduser() if own else Path.home() / ".cache" / "kagglehub"


def handle_of(path: Path) -> str | None:
    """The ORG/REPO, Kaggle handle or BUCKET/PATH that a file or folder inside a cache belongs to; None elsewhere.

    The starter, in Gemcut's own cache, belongs to google/gemma-3-270m.
    """
    path = path.expanduser().absolute()
    hub, kaggle = huggingface_cache().absolute(), kaggle_cache().absolute() / "models"
    gcs = gcs_place("").absolute()
    if path.is_relative_to(gcs):
        return path.relative_to(gcs).as_posix()
    if path.is_relative_to(hub) and (parts := path.relative_to(hub).parts):
        kind, *names = parts[0].split("--")
        return "/".join(names) if kind == "models" and names else None
    if path.is_relative_to(kaggle) and len(parts := path.relative_to(kaggle).parts) >= 4:
        return "/".join(parts[:4])
    return STARTER_BASE if path.is_relative_to(cache_folder().absolute() / "starter") else None


def gcs_place(name: str) -> Path:
    """Where the copy of BUCKET/PATH lies in Gemcut's cache."""
    return cache_folder() / "gs" / name


def complete_marker(place: Path) -> Path:
    """The empty file that says, in the manner of Kaggle's client, that a copy is whole."""
    return place.with_name(place.name + ".complete")


def _resolve_published(reference: Reference) -> Path:
    model = PUBLISHED[reference.name]
    found = _in_huggingface_cache(model.huggingface, None, None)
    if found is None and model.kaggle is not None:
        found = _in_kaggle_cache(model.kaggle, None)
    if found is None:
        places = [str(huggingface_cache() / repository_folder(model.huggingface))]
        if model.kaggle is not None:
            places.append(str(kaggle_cache() / "models" / model.kaggle))
        raise _not_here(reference, " and ".join(places))
    return found


def _resolve_path(reference: Reference) -> Path:
    path = Path(reference.name).expanduser()
    if path.exists():
        return path
    hint = "Check the path."
    if re.fullmatch(rf"{_PART}/{_PART}", reference.text):
        hint = f"For a Hugging Face repository write hf:{reference.text}."
    raise NotFoundError(f"{reference.text}: no such file or folder. {hint}")


def repository_folder(repository: str) -> str:
    """The folder inside Hugging Face's cache that holds ORG/REPO."""
    return "models--" + repository.replace("/", "--")


def _in_huggingface_cache(repository: str, file: str | None, revision: str | None) -> Path | None:
    """The snapshot, or the file in it, of the revision (a branch or tag by its ref, else a commit)."""
    folder = huggingface_cache() / repository_folder(repository)
    ref = folder / "refs" / (revision or "main")
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    if not commit:
        return None
    path = folder / "snapshots" / commit
    if file is not None:
        path /= file
    return path if path.exists() else None


def _in_kaggle_cache(handle: str, version: str | None) -> Path | None:
    """The folder of the version (the newest one here when None) that its marker file says is complete."""
    folder = kaggle_cache() / "models" / handle
    versions = [version] if version else [path.stem for path in folder.glob("*.complete") if path.stem.isdigit()]
    for candidate in sorted(versions, key=int, reverse=True):
        if complete_marker(folder / candidate).exists() and (folder / candidate).is_dir():
            return folder / candidate
    return None


def _not_here(reference: Reference, places: str) -> NotFoundError:
    return NotFoundError(
        f"{reference.text}: not on this machine (looked in {places}). Get it with: gemcut pull {reference.text}"
    )


def _unknown(text: str) -> NotFoundError:
    if text in COMMAND_NAMES and Path(text).exists():
        return NotFoundError(f"{text}: a command of gemcut has this name. Write ./{text} for the model in that folder.")
    return NotFoundError(
        f"{text}: neither a model name nor a file or folder here. {close_names(text)} "
        f"Other forms: starter, {_HF_FORM}, {_KAGGLE_FORM}, {_GCS_FORM}, a path."
    )
