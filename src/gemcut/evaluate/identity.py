"""Which model answered: by what its files contain, never by what they are called."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gemcut.checkpoint import open_checkpoint
from gemcut.checkpoint.gguf_file import split_files
from gemcut.engine import NativeTokenizer
from gemcut.errors import GemcutError
from gemcut.files import atomic_write_text, sha256_of
from gemcut.generate.load import tokenizer_of
from gemcut.generate.text_model import TextModel
from gemcut.hub import cache_folder
from gemcut.hub.cache import make_cache_folder

_CONFIGS = ("config.json", "generation_config.json", "tokenizer_config.json")  # beside a file that lacks them
_NOTES = (".md", ".txt", ".png", ".jpg", ".gitattributes")  # of a model's folder: what no answer depends on
_MOST_KNOWN = 2000  # files whose digests are remembered


@dataclasses.dataclass(frozen=True)
class ModelIdentity:
    """What tells a model from every other.

    Attributes:
        weights_sha256: Of the weights' file; of a folder, of the list of its files' digests as `sha256sum` prints it.
            "logits:" and a digest of its answer to a fixed text, where the model came from no file.
        tokenizer_sha256: Of pieces, their order and settings; the same for every file form.
        adapter_sha256: Of the adapter's folder; None without one.
        engine, dtype, device: As of `gemcut.TextModel`.
    """

    weights_sha256: str
    tokenizer_sha256: str
    adapter_sha256: str | None
    engine: str
    dtype: str
    device: str

    def as_dict(self) -> dict[str, Any]:
        """Its fields."""
        return dataclasses.asdict(self)


def identity_of(model: TextModel) -> ModelIdentity:
    """The identity of a loaded model. Digests of files are remembered by their path, size and times.

    Raises:
        NotFoundError: its files are gone.
        GemcutError: they cannot be read.
    """
    known = _KnownDigests()
    if model.path is None:
        weights, tokenizer = f"logits:{_answer_digest(model)}", _tokenizer_digest(model)
    else:
        weights = known.of_path(model.path)
        tokenizer = known.remembered(f"tokenizer of {weights}", lambda: _tokenizer_digest(model))
    adapter = None if model.adapter is None else known.of_path(model.adapter)
    known.save()
    return ModelIdentity(weights, tokenizer, adapter, model.engine, model.dtype, model.device)


class _KnownDigests:
    """SHA-256 of files that were taken before, in a file of Gemcut's cache; a lost or damaged one only costs time."""

    def __init__(self) -> None:
        self._path = cache_folder() / "evaluate" / "digests.json"
        self._digests: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            read = json.loads(self._path.read_text(encoding="utf-8"))
            self._digests = {str(key): str(value) for key, value in dict(read).items()}
        self._changed = False

    def of_path(self, path: Path) -> str:
        """Of a model's file or folder; of a file that is not whole alone, with those that belong to it."""
        path = path.absolute()
        if path.suffix == ".json" or ("-of-" in path.name and path.suffix != ".gguf"):
            path = path.parent
        if path.is_dir():
            files = [file for file in sorted(path.rglob("*")) if _counts(file, path)]
        elif path.suffix == ".gguf":
            files = [file for file in split_files(path) if file.is_file()]
        else:
            files = [path, *(file for name in _CONFIGS if (file := path.with_name(name)).is_file())]
        if len(files) == 1 and path.is_file():
            return self._of_file(path)
        folder = path if path.is_dir() else path.parent
        lines = [f"{self._of_file(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def _of_file(self, path: Path) -> str:
        facts = path.stat()
        times = f"{facts.st_mtime_ns} {facts.st_ctime_ns}"
        return self.remembered(f"{path} {facts.st_size} {facts.st_ino} {times}", lambda: sha256_of(path))

    def remembered(self, key: str, compute: Callable[[], str]) -> str:
        """What was computed for `key` before, or else now."""
        if key not in self._digests:
            self._digests[key] = compute()
            self._changed = True
        return self._digests[key]

    def save(self) -> None:
        """Write down what is new; where that cannot be, the next run computes it again."""
        if not self._changed:
            return
        newest = dict(list(self._digests.items())[-_MOST_KNOWN:])
        with contextlib.suppress(GemcutError):
            make_cache_folder("evaluate")
            atomic_write_text(self._path, json.dumps(newest, indent=0))


def _counts(file: Path, folder: Path) -> bool:
    """Whether a file of a model's folder may change answers."""
    is_hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.is_file() and not is_hidden and not file.name.endswith(_NOTES)


def _tokenizer_digest(model: TextModel) -> str:
    """A tokenizer of the engine has no digest of its own, but its file gives the same tokenizer."""
    if not isinstance(model.tokenizer, NativeTokenizer):
        return model.tokenizer.digest()
    assert model.path is not None
    with open_checkpoint(model.path) as checkpoint:
        return tokenizer_of(checkpoint).digest()


def _answer_digest(model: TextModel) -> str:
    """Of the logits after each token of a short fixed text."""
    token_ids = model.tokenizer.encode("The quick brown fox jumps over the lazy dog.")[: model.context]
    return hashlib.sha256(np.ascontiguousarray(model.logits(token_ids)).tobytes()).hexdigest()
