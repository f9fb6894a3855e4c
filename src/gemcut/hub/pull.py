"""Pulling a model: from the hub that a reference names onto this machine."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from gemcut.config import PUBLISHED
from gemcut.errors import UsageError
from gemcut.hub.gcs import pull_gcs
from gemcut.hub.huggingface import pull_huggingface
from gemcut.hub.kaggle import pull_kaggle
from gemcut.hub.references import Reference, parse_reference
from gemcut.hub.starter import starter_path
from gemcut.hub.transfer import Progress


def pull(
    reference: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    progress: Progress | None = None,
    files: Sequence[str] | None = None,
) -> Path:
    """The file or folder on this machine that `reference` means, downloaded as far as it is not here.

    What an earlier, interrupted pull brought is not downloaded again. A published name comes from Hugging Face.

    Args:
        reference: Any model reference but a path.
        revision: Branch, tag or commit (Hugging Face), version number (Kaggle), instead of one in the reference.
        token: The hub's access token; None for the one its client knows.
        progress: Called with a file's name, the bytes of it that are here, and its size, from several threads.
        files: Names or patterns (`*.gguf`) to get, instead of what a model needs.

    Raises:
        UsageError: the reference is malformed, or a path.
        NotFoundError: the hub has no such model, revision or file.
        DownloadError: access is gated; or the hub, the network or the disk failed.
        MissingExtraError: the hub's client is not installed.
    """
    parsed = parse_reference(reference)
    if revision is not None:
        if parsed.revision not in (None, revision):
            raise UsageError(
                f"{parsed.text}: names revision {parsed.revision}, and revision {revision} is given. Give one of them."
            )
        parsed = dataclasses.replace(parsed, revision=revision)
    match parsed.kind:
        case "starter":
            return starter_path()
        case "published":
            return _from_huggingface(
                dataclasses.replace(parsed, name=PUBLISHED[parsed.name].huggingface), token, progress, files
            )
        case "huggingface":
            return _from_huggingface(parsed, token, progress, files)
        case "kaggle":
            return pull_kaggle(
                parsed.name, version=parsed.revision, token=token, progress=progress, include=files or ()
            )
        case "gcs":
            if parsed.revision is not None:
                raise UsageError(f"{parsed.text}: a bucket has no revisions, and {parsed.revision} is given.")
            return pull_gcs(parsed.name, progress=progress, include=files or ())
    raise UsageError(f"{parsed.text}: is a path, so there is nothing to pull. Use it as it is.")


def _from_huggingface(
    reference: Reference, token: str | None, progress: Progress | None, files: Sequence[str] | None
) -> Path:
    return pull_huggingface(
        reference.name,
        file=reference.file,
        revision=reference.revision,
        token=token,
        progress=progress,
        include=files or (),
    )
