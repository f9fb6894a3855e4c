"""Which files of a repository a model needs."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence

from gemcut.errors import NotFoundError, UsageError

# The first kind of weights that a repository has is taken; the others hold the same numbers again.
_WEIGHTS = (".safetensors", ".bin", ".gguf", ".ckpt", ".weights.h5", ".sbs")
_INDEX = ".index.json"
# consolidated.* is Mistral's and Meta's own layout of the same weights; the rest is the state of a training run.
_NO_MODEL = re.compile(r"consolidated.*|.*mmproj.*|training_args\.bin|optimizer\..*|scheduler\..*|rng_state.*")
_BESIDE = re.compile(
    r"[^/]+\.(json|jinja|model|spm|txt|md)|(licen[cs]e|notice|use_policy|usage)[^/]*"
    r"|assets/tokenizer/[^/]+|(additional_)?chat_templates?/[^/]+\.jinja",
    re.IGNORECASE,
)
_PART = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})(?P<suffix>\.\w+)")


def choose_files(
    names: Sequence[str], where: str, *, file: str | None = None, include: Sequence[str] = ()
) -> list[str]:
    """The files of a repository to get, in its order.

    One kind of weights (safetensors before torch before GGUF before the others) with all that lies beside them:
    configuration, tokenizer, templates, model card and licence. Folders inside are left out, as they hold the same
    model in other formats.

    Args:
        names: All files of the repository, / between folders.
        where: The repository, for messages.
        file: This file only, with the other parts if it is one of several.
        include: These names or patterns (`*.gguf`) only, whatever else there is.

    Raises:
        NotFoundError: no such file, or no weights.
        UsageError: it holds several GGUF files, each a whole model.
    """
    if file is not None:
        return _parts_of(file, names, where)
    if include:
        return matching(names, include, where)
    beside = [name for name in names if _BESIDE.fullmatch(name) and not name.endswith(_INDEX)]
    for suffix in _WEIGHTS:
        weights = [
            name for name in names if "/" not in name and name.endswith(suffix) and not _NO_MODEL.fullmatch(name)
        ]
        if not weights:
            continue
        models = {_PART.sub(r"\g<stem>\g<suffix>", name) for name in weights}
        if suffix == ".gguf" and len(models) > 1:
            raise UsageError(
                f"{where}: holds {len(models)} GGUF files, each a whole model. Name one: "
                + ", ".join(f"{where}/{name}" for name in weights[:12])
            )
        index = [name for name in names if "/" not in name and name.endswith(suffix + _INDEX)]
        wanted = {*weights, *index, *beside}
        return [name for name in names if name in wanted]
    raise NotFoundError(
        f"{where}: holds no weights that are known ({', '.join(_WEIGHTS)}) but {_listed(names)}. "
        "Name a file in it, or another repository."
    )


def matching(names: Sequence[str], patterns: Sequence[str], where: str) -> list[str]:
    """The names that one of the patterns (`*.gguf`) fits; all when there are none.

    Raises:
        NotFoundError: no name fits.
    """
    found = [name for name in names if not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    if not found:
        raise NotFoundError(f"{where}: no file matches {', '.join(patterns) or '*'}. It holds {_listed(names)}.")
    return found


def _parts_of(file: str, names: Iterable[str], where: str) -> list[str]:
    """The named file; all parts when it is one of several."""
    if file not in names:
        raise NotFoundError(f"{where}: has no file {file}. It holds {_listed(list(names))}.")
    match = _PART.fullmatch(file)
    if match is None:
        return [file]
    return [
        f"{match['stem']}-{part:05d}-of-{match['count']}{match['suffix']}" for part in range(1, int(match["count"]) + 1)
    ]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8]) or "nothing"
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
