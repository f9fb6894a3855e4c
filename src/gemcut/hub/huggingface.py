"""Getting models from the Hugging Face Hub into its own client's cache, by that client."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemcut.errors import DownloadError, NotFoundError
from gemcut.files import atomic_write_text
from gemcut.hub.huggingface_client import import_client, page_of, plain_words
from gemcut.hub.licences import licence_stated, show_terms_once
from gemcut.hub.references import huggingface_cache, repository_folder
from gemcut.hub.transfer import (
    Meter,
    Progress,
    RemoteFile,
    asked_seconds,
    check_content,
    check_name,
    check_space,
    patiently,
    side_by_side,
)
from gemcut.hub.wanted_files import choose_files

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

logger = logging.getLogger("gemcut")

_COMMIT = re.compile("[0-9a-f]{40}")
_DIGEST = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_RETRY_SECONDS = 1.0
# What the Hub keeps outside git has this digest.
_LARGE = "sha256"


def pull_huggingface(
    repository: str,
    *,
    file: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    progress: Progress | None = None,
    include: Sequence[str] = (),
) -> Path:
    """The snapshot folder of a repository, or the file in it, downloaded where it is not yet in the client's cache.

    Large files resume where an earlier try ended, however that ended. The name of the revision is recorded last, so
    a reference finds the model only when it is whole.

    Args:
        repository: ORG/REPO.
        file: This file only.
        revision: Branch, tag or commit; None for main.
        token: An access token; None for the client's own (HF_TOKEN, or where `hf auth login` put it).
        progress: Called with name, bytes here and size, from several threads.
        include: These names or patterns only.

    Raises:
        MissingExtraError: the client is not installed.
        UsageError: the name is none that the Hub can have, or several GGUF files lie there and none is named.
        NotFoundError: the Hub has no such repository, revision or file.
        DownloadError: access is gated, or the Hub, the network or the disk failed.
    """
    where = f"hf:{repository}"
    cache = huggingface_cache()
    folder = cache / repository_folder(repository)
    with plain_words(repository, revision, token, folder):
        info = _repository_info(repository, revision, token)
        announced = {remote.name: remote for remote in _remote_files(info, where)}
        names = choose_files(list(announced), where, file=file, include=include)
        missing = [name for name in names if name not in announced]
        if missing:
            raise NotFoundError(f"{where}: lacks {missing[0]}, a part of {file}. Report it to the repository's owner.")
        files = [announced[name] for name in names]
        check_space(cache, sum(_bytes_to_come(folder, remote) for remote in files), where, "HF_HUB_CACHE")
        _show_terms(repository, info)
        commit = str(info.sha)
        side_by_side(files, _Fetch(repository, commit, token, cache), progress)
        name = revision or "main"
        if not _COMMIT.fullmatch(name):
            (folder / "refs" / name).parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(folder / "refs" / name, commit)
    snapshot = folder / "snapshots" / commit
    return snapshot / file if file else snapshot


def _repository_info(repository: str, revision: str | None, token: str | None) -> ModelInfo:
    """Commit, files and model card of a revision; waits as long as a busy Hub asks for."""
    from huggingface_hub.errors import HfHubHTTPError

    def seconds_to_wait(error: Exception) -> float | None:
        if not isinstance(error, HfHubHTTPError):
            return None
        return asked_seconds(error.response.status_code, error.response.headers.get("Retry-After"))

    client = import_client()
    ask = functools.partial(
        client.HfApi(token=token).model_info,
        repository,
        revision=revision,
        files_metadata=True,
        timeout=client.constants.HF_HUB_ETAG_TIMEOUT,
    )
    return patiently(ask, seconds_to_wait, f"hf:{repository}")


def _remote_files(info: ModelInfo, where: str) -> Iterator[RemoteFile]:
    """The Hub's listing; what lies in large-file storage has a sha256, the rest a git object's name.

    Raises:
        DownloadError: a name or digest, which become paths, would lead out of the cache.
    """
    for sibling in info.siblings or []:
        kind, digest = (_LARGE, sibling.lfs.sha256) if sibling.lfs else ("git object", sibling.blob_id)
        if digest is None:  # a Hub that tells names only; its client finds out the rest
            kind, digest = "", ""
        elif not _DIGEST.fullmatch(digest):
            raise DownloadError(f"{where}: lists {sibling.rfilename} with the digest {digest!r}. Do not use it.")
        check_name(sibling.rfilename, where)
        yield RemoteFile(sibling.rfilename, sibling.size or 0, kind, digest)


def _blob(folder: Path, file: RemoteFile) -> Path:
    """Where the client keeps a file's content."""
    return folder / "blobs" / file.digest


def _partial(folder: Path, file: RemoteFile) -> Path:
    """Where our unfinished download of a file lies; its name tells the content, so a changed file starts anew."""
    return folder / "blobs" / f"{file.digest}.gemcut.incomplete"


def _bytes_to_come(folder: Path, file: RemoteFile) -> int:
    if not file.digest or _blob(folder, file).exists():
        return 0
    partial = _partial(folder, file)
    return max(file.num_bytes - (partial.stat().st_size if partial.exists() else 0), 0)


def _show_terms(repository: str, info: ModelInfo) -> None:
    """Tell which terms the repository comes under, as its card and its name say."""
    card: dict[str, Any] = info.card_data.to_dict() if info.card_data else {}
    licence = licence_stated(repository, card.get("license_name") or card.get("license"), card.get("license_link"))
    if licence is None:
        logger.warning("hf:%s: states no licence. Ask its owner before you use it: %s", repository, page_of(repository))
        return
    show_terms_once(licence, f"hf:{repository}")


class _Fetch:
    """Brings one file of a commit into the client's cache."""

    def __init__(self, repository: str, commit: str, token: str | None, cache: Path) -> None:
        self.repository, self.commit, self.token, self.cache = repository, commit, token, cache
        self.folder = cache / repository_folder(repository)

    def __call__(self, file: RemoteFile, meter: Meter) -> None:
        from huggingface_hub import constants, hf_hub_download

        # The client starts a large file anew after a kill, so we fetch its content; then the client finds it there.
        if file.digest_kind == _LARGE and file.num_bytes <= constants.MAX_HTTP_DOWNLOAD_SIZE:
            self._fetch_content(file, meter)
        was_here = not file.digest or _blob(self.folder, file).exists()
        path = Path(
            hf_hub_download(
                self.repository,
                file.name,
                revision=self.commit,
                cache_dir=self.cache,
                token=self.token,
                tqdm_class=_bar_class(meter),
            )
        )
        if not was_here:
            try:
                check_content(path.resolve(), file, f"hf:{self.repository}")
            except DownloadError:
                path.unlink(missing_ok=True)
                raise
        meter.set(file.num_bytes)

    def _fetch_content(self, file: RemoteFile, meter: Meter) -> None:
        """Download a large file's content to the place where the client looks for it, resuming and checked."""
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

        blob, partial = _blob(self.folder, file), _partial(self.folder, file)
        # The client's own lock, so that nobody else downloads the same content at the same time.
        lock = self.cache / ".locks" / self.folder.name / f"{file.digest}.lock"
        for folder in (blob.parent, lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if blob.exists():
                return
            if partial.exists() and partial.stat().st_size > file.num_bytes:
                partial.unlink()
            patiently(lambda: self._append(partial, file, meter), _after_a_break, f"hf:{self.repository}")
            check_content(partial, file, f"hf:{self.repository}")
            partial.replace(blob)

    def _append(self, partial: Path, file: RemoteFile, meter: Meter) -> None:
        """Download what an unfinished file lacks."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        with open(partial, "ab") as out:
            meter.set(out.tell())
            http_get(
                hf_hub_url(self.repository, file.name, revision=self.commit),
                out,
                resume_size=out.tell(),
                headers=build_hf_headers(token=self.token, library_name="gemcut"),
                expected_size=file.num_bytes,
                displayed_filename=file.name,
                tqdm_class=_bar_class(meter),
            )
            out.flush()
            os.fsync(out.fileno())


def _after_a_break(error: Exception) -> float | None:
    """The wait after a connection was reset, which the client does not take up again by itself."""
    import httpx2

    return _RETRY_SECONDS if isinstance(error, httpx2.ReadError) else None


def _bar_class(meter: Meter) -> Any:
    """What the client takes for a progress bar, and in truth is `meter`."""

    class Bar:
        def __init__(self, *args: Any, initial: int = 0, **options: Any) -> None:
            meter.set(initial)

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *exception: object) -> None:
            pass

        def update(self, num_bytes: float | None = 1) -> None:
            meter.add(int(num_bytes or 0))

        def __getattr__(self, name: str) -> Callable[..., None]:
            """What else a bar can do shows nothing here."""
            return lambda *args, **options: None

    return Bar
