"""Getting models from Google Cloud Storage into Gemcut's cache, by Google's client."""

from __future__ import annotations

import base64
import contextlib
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gemcut.errors import DownloadError, GemcutError, MissingExtraError, NotFoundError
from gemcut.hub.licences import licence_of_published, show_terms_once
from gemcut.hub.references import complete_marker, gcs_place
from gemcut.hub.transfer import (
    UNFINISHED,
    Meter,
    Progress,
    RemoteFile,
    Stopped,
    check_content,
    check_name,
    check_space,
    disk_error,
    patiently,
    side_by_side,
)
from gemcut.hub.wanted_files import matching

_RETRY_SECONDS = 1.0


def pull_gcs(name: str, *, progress: Progress | None = None, include: Sequence[str] = ()) -> Path:
    """The copy of an object, or of all objects below a path, downloaded where it is not yet in Gemcut's cache.

    Each file resumes where an earlier try ended. The copy is marked as complete last, so a reference finds it only
    when it is whole.

    Args:
        name: BUCKET/PATH, an object or the beginning of several.
        progress: Called with name, bytes here and size, from several threads.
        include: These names or patterns only; the copy is then not marked as complete.

    Raises:
        MissingExtraError: the client is not installed.
        NotFoundError: there is no such bucket or path.
        DownloadError: access is refused, or the storage, the network or the disk failed.
    """
    where, place = f"gs://{name}", gcs_place(name)
    complete = complete_marker(place)
    if complete.exists():
        return place
    bucket, _, prefix = name.partition("/")
    with _plain_words(name, place), contextlib.closing(_client()) as client:
        blobs, folder = _objects(client, bucket, prefix), place
        if not blobs:
            raise NotFoundError(f"{where}: nothing lies there. List the bucket: gcloud storage ls gs://{bucket}")
        if blobs.keys() == {""}:  # the object itself
            blobs, folder = {place.name: blobs[""]}, place.parent
        files = {file_name: _remote_file(file_name, blob, where) for file_name, blob in blobs.items()}
        chosen = [files[file_name] for file_name in matching(list(files), include, where)]
        check_space(folder, sum(_bytes_to_come(folder, file) for file in chosen), where, "GEMCUT_CACHE")
        if licence := licence_of_published(name):
            show_terms_once(licence, where)
        side_by_side(chosen, lambda file, meter: _fetch(blobs[file.name], file, folder, meter, where), progress)
        if not include:
            complete.touch()
    return place


def _import_client() -> Any:
    """Google's client.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from google.cloud import storage
    except ImportError:
        raise MissingExtraError(
            'google-cloud-storage, the client of gs://, is not installed. Run: pip install "gemcut[gcs]"'
        ) from None
    return storage


def _client() -> Any:
    """A client with the user's default credentials; without any, an anonymous one for public buckets."""
    from google.auth.exceptions import DefaultCredentialsError

    storage = _import_client()
    try:
        return storage.Client()
    except DefaultCredentialsError:
        return storage.Client.create_anonymous_client()


def _objects(client: Any, bucket: str, prefix: str) -> dict[str, Any]:
    """The objects below a path by the rest of their names, or the object of that very name by the empty one."""
    found = {blob.name: blob for blob in client.list_blobs(bucket, prefix=prefix) if not blob.name.endswith("/")}
    if prefix in found:
        return {"": found[prefix]}
    below = prefix + "/"
    return {name.removeprefix(below): blob for name, blob in found.items() if name.startswith(below)}


def _remote_file(name: str, blob: Any, where: str) -> RemoteFile:
    """What the listing tells; CRC32C is the digest that every object has, composed ones too."""
    check_name(name, where)
    return RemoteFile(name, blob.size, "crc32c", base64.b64decode(blob.crc32c).hex())


def _bytes_to_come(folder: Path, file: RemoteFile) -> int:
    done = [path.stat().st_size for path in (folder / file.name, *_partials(folder, file)) if path.is_file()]
    return max(file.num_bytes - max(done, default=0), 0)


def _partials(folder: Path, file: RemoteFile) -> list[Path]:
    """Unfinished downloads of a file, each with the version of its object in its name."""
    target = folder / file.name
    return sorted(target.parent.glob(f"{glob.escape(target.name)}.*{UNFINISHED}"))


def _fetch(blob: Any, file: RemoteFile, folder: Path, meter: Meter, where: str) -> None:
    """Download an object, or what is missing of it, and check it."""
    target = folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        with contextlib.suppress(DownloadError):  # what an earlier version of the object left is removed
            check_content(target, file, where)
            meter.set(file.num_bytes)
            return
    partial = target.with_name(f"{target.name}.{blob.generation}{UNFINISHED}")

    def download() -> None:
        with open(partial, "ab") as out:
            meter.set(out.tell())
            if out.tell() < file.num_bytes:
                blob.download_to_file(
                    _Counted(out, meter), start=out.tell(), if_generation_match=blob.generation, checksum=None
                )
            out.flush()
            os.fsync(out.fileno())

    patiently(download, _seconds_to_wait, where)
    check_content(partial, file, where)
    partial.replace(target)
    for leftover in _partials(folder, file):
        leftover.unlink()
    meter.set(file.num_bytes)


class _Counted:
    """A file that tells a meter how much is written to it."""

    def __init__(self, file: Any, meter: Meter) -> None:
        self.file, self.meter = file, meter

    def write(self, data: bytes) -> int:
        """Write and count."""
        self.meter.add(len(data))
        return self.file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _seconds_to_wait(error: Exception) -> float | None:
    """Broken connections are taken up again; the client itself waits for a busy server."""
    import requests

    broken = (requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)
    return _RETRY_SECONDS if isinstance(error, broken) else None


@contextlib.contextmanager
def _plain_words(name: str, place: Path) -> Iterator[None]:
    """Translate the client's exceptions into ours."""
    _import_client()
    import requests
    from google.api_core.exceptions import Forbidden, GoogleAPICallError, NotFound, PreconditionFailed, Unauthorized
    from google.auth.exceptions import GoogleAuthError, InvalidOperation

    where = f"gs://{name}"
    try:
        yield
    except (GemcutError, Stopped):
        raise
    except (Forbidden, Unauthorized, InvalidOperation):  # the last: an anonymous client has nothing to renew
        raise DownloadError(
            f"{where}: the storage refuses access. Log in with an account that may read the bucket: "
            "gcloud auth application-default login; then pull again."
        ) from None
    except NotFound:
        raise NotFoundError(f"{where}: there is no such bucket or object. Check the name.") from None
    except PreconditionFailed:
        raise DownloadError(f"{where}: an object changed while it was downloaded. Pull again.") from None
    except GoogleAPICallError as error:
        raise DownloadError(
            f"{where}: the storage answered {error.code}. What came so far is kept; pull again later."
        ) from None
    except GoogleAuthError as error:
        raise DownloadError(
            f"{where}: the credentials do not work ({error}). Run: gcloud auth application-default login"
        ) from None
    except requests.RequestException as error:
        raise DownloadError(
            f"{where}: the storage could not be reached ({error}). Check the network; what came so far is kept, "
            "so pull again."
        ) from None
    except OSError as error:
        raise disk_error(where, place.parent, error) from None
