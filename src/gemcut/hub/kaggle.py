"""Getting models from Kaggle into its own client's cache, by that client."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gemcut.errors import DownloadError, GemcutError, MissingExtraError, NotFoundError, UsageError
from gemcut.hub.licences import licence_stated, show_terms_once
from gemcut.hub.references import complete_marker, kaggle_cache
from gemcut.hub.transfer import (
    MAX_TRIES,
    Meter,
    Progress,
    RemoteFile,
    Stopped,
    asked_seconds,
    check_content,
    check_name,
    check_space,
    disk_error,
    patiently,
    side_by_side,
)
from gemcut.hub.wanted_files import matching

_PAGE = "https://www.kaggle.com"
_SET_TOKEN = f"make a token at {_PAGE}/settings and set it as KAGGLE_API_TOKEN"
_FILES_A_PAGE = 100
_RETRY_SECONDS = 1.0
# The meter of the file that a thread downloads; the client makes a progress bar without knowing whose.
_thread = threading.local()


def pull_kaggle(
    handle: str,
    *,
    version: str | None = None,
    token: str | None = None,
    progress: Progress | None = None,
    include: Sequence[str] = (),
) -> Path:
    """The folder of a model's version, downloaded where it is not yet in the client's cache.

    Each file resumes where an earlier try ended. The version is marked as complete last, so a reference finds it only
    when it is whole.

    Args:
        handle: OWNER/MODEL/FRAMEWORK/VARIATION.
        version: A version number; None for the newest.
        token: An API token; None for the client's own credentials.
        progress: Called with name, bytes here and size, from several threads.
        include: These names or patterns only; the version is then not marked as complete.

    Raises:
        MissingExtraError: the client is not installed.
        UsageError: Kaggle has no such framework.
        NotFoundError: Kaggle has no such model, version or file.
        DownloadError: access is refused, or Kaggle, the network or the disk failed.
    """
    where, folder = f"kaggle:{handle}", kaggle_cache() / "models" / handle
    with _plain_words(handle, token, folder), _open_model(handle, version, token) as model:
        folder /= str(model.handle.version)
        complete = complete_marker(folder)
        if complete.exists():
            return folder
        announced = {file.name: file for file in model.files()}
        files = [announced[name] for name in matching(list(announced), include, where)]
        check_space(folder, sum(_bytes_to_come(folder, file) for file in files), where, "KAGGLEHUB_CACHE")
        licence = licence_stated(handle, model.licence_name, f"{_PAGE}/models/{handle}")
        if licence is not None:
            show_terms_once(licence, where)
        with _bars_to_meters():
            side_by_side(files, lambda file, meter: model.fetch(file, folder, meter), progress)
        if not include:
            complete.touch()
    return folder


def _bytes_to_come(folder: Path, file: RemoteFile) -> int:
    path = folder / file.name
    return max(file.num_bytes - (path.stat().st_size if path.exists() else 0), 0)


def _import_client() -> Any:
    """Kaggle's client, kept from writing to standard output."""
    try:
        import kagglehub
        import kagglehub.clients
    except ImportError:
        raise MissingExtraError(
            'kagglehub, the client of Kaggle, is not installed. Run: pip install "gemcut[kaggle]"'
        ) from None
    log = logging.getLogger("kagglehub")
    for handler in [handler for handler in log.handlers if type(handler) is logging.StreamHandler]:
        log.removeHandler(handler)  # it writes to standard output, which belongs to the answer
    log.setLevel(logging.WARNING)
    return kagglehub


class _Model:
    """One version of a model on Kaggle."""

    def __init__(self, client: Any, handle: Any) -> None:
        self.client, self.handle, self.licence_name = client.models.model_api_client, handle, None
        if not handle.is_versioned():
            from kagglesdk.models.types.model_api_service import ApiGetModelInstanceRequest

            instance = self._ask(self.client.get_model_instance, ApiGetModelInstanceRequest())
            self.handle, self.licence_name = handle.with_version(instance.version_number), instance.license_name

    def files(self) -> Iterator[RemoteFile]:
        """All files; Kaggle tells their sizes, and their digests only with their content."""
        from kagglesdk.models.types.model_api_service import ApiListModelInstanceVersionFilesRequest

        page: str | None = None
        while page != "":
            request = ApiListModelInstanceVersionFilesRequest()
            request.page_size = _FILES_A_PAGE
            if page:
                request.page_token = page
            answer = self._ask(self.client.list_model_instance_version_files, request)
            for file in answer.files:
                check_name(file.name, f"kaggle:{self.handle}")
                yield RemoteFile(file.name, file.size)
            page = answer.next_page_token

    def fetch(self, file: RemoteFile, folder: Path, meter: Meter) -> None:
        """Download a file, or what is missing of it; the client checks its MD5."""
        from kagglehub.clients import download_file
        from kagglesdk.models.types.model_api_service import ApiDownloadModelInstanceVersionRequest

        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)

        def download() -> None:
            request = ApiDownloadModelInstanceVersionRequest()
            request.path = file.name
            answer = self._ask(self.client.download_model_instance_version, request)
            _thread.meter = meter
            with answer:
                num_bytes = int(answer.headers.get("Content-Length", file.num_bytes))
                download_file(answer, str(target), self.handle)
            # The client appends whatever comes when it resumes, and checks no MD5 where none was sent.
            check_content(target, RemoteFile(file.name, num_bytes), f"kaggle:{self.handle}")

        patiently(download, _seconds_to_wait, f"kaggle:{self.handle}")
        meter.set(file.num_bytes)

    def _ask(self, call: Any, request: Any) -> Any:
        """The answer to a request about this model, whose name is filled in."""
        request.owner_slug, request.model_slug = self.handle.owner, self.handle.model
        request.framework, request.instance_slug = self.handle.framework_enum(), self.handle.variation
        if self.handle.is_versioned():
            request.version_number = self.handle.version
        return patiently(lambda: call(request), _seconds_to_wait, f"kaggle:{self.handle}")


@contextlib.contextmanager
def _open_model(name: str, version: str | None, token: str | None) -> Iterator[_Model]:
    kagglehub = _import_client()
    from kagglehub.handle import parse_model_handle
    from kagglesdk.kaggle_client import KaggleClient
    from kagglesdk.kaggle_env import get_env

    try:
        handle = parse_model_handle(f"{name}/{version}" if version else name)
        handle.framework_enum()
    except ValueError as problem:
        raise UsageError(f"kaggle:{name}: Kaggle's client does not accept it ({problem}). Check the name.") from None
    with KaggleClient(env=get_env(), api_token=token) if token else kagglehub.clients.build_kaggle_client() as client:
        yield _Model(client, handle)


@contextlib.contextmanager
def _bars_to_meters() -> Iterator[None]:
    """Hand the client a progress bar that tells our meters, while it lasts."""
    from kagglehub import clients

    original = clients.tqdm
    clients.tqdm = _Bar
    try:
        yield
    finally:
        clients.tqdm = original


class _Bar:
    """What the client takes for a progress bar; it tells the meter of its thread."""

    def __init__(self, *, initial: int = 0, **options: Any) -> None:
        self.meter: Meter = _thread.meter
        self.meter.set(initial)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def update(self, num_bytes: int) -> None:
        self.meter.add(num_bytes)


def _seconds_to_wait(error: Exception) -> float | None:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return asked_seconds(error.response.status_code, error.response.headers.get("Retry-After"))
    broken = (requests.exceptions.ChunkedEncodingError, requests.exceptions.ReadTimeout)
    return _RETRY_SECONDS if isinstance(error, broken) else None


@contextlib.contextmanager
def _plain_words(handle: str, token: str | None, folder: Path) -> Iterator[None]:
    """Translate the client's exceptions into ours."""
    _import_client()
    import requests
    from kagglehub.config import get_kaggle_credentials
    from kagglehub.exceptions import DataCorruptionError

    where = f"kaggle:{handle}"
    try:
        yield
    except (GemcutError, Stopped):
        raise
    except DataCorruptionError:
        raise DownloadError(
            f"{where}: a file came with another MD5 than announced. The damaged copy was removed; pull again, "
            "and if this stays, a proxy between here and Kaggle changes files."
        ) from None
    except requests.HTTPError as error:
        has_token = bool(token or get_kaggle_credentials())
        raise _refusal(handle, error.response.status_code if error.response is not None else 0, has_token) from None
    except requests.RequestException as error:
        raise DownloadError(
            f"{where}: Kaggle could not be reached ({error}). Check the network; what came so far is kept, "
            "so pull again."
        ) from None
    except OSError as error:
        raise disk_error(where, folder, error) from None


def _refusal(handle: str, status: int, has_token: bool) -> GemcutError:
    """What a status that is no success means for the user."""
    where, page = f"kaggle:{handle}", f"{_PAGE}/models/{'/'.join(handle.split('/')[:2])}"
    if status in (401, 403) and has_token:
        return DownloadError(
            f"{where}: Kaggle refuses access to the account of your token, or the token itself. "
            f"Visit {page} with that account and accept the terms there; or {_SET_TOKEN}. Then pull again."
        )
    if status in (401, 403):
        return DownloadError(
            f"{where}: Kaggle refuses access, and no token was sent. Visit {page}, log in and accept the terms there; "
            f"then {_SET_TOKEN} and pull again."
        )
    if status == 404:
        return NotFoundError(f"{where}: Kaggle has no such model, variation or version. Check the name at {page}.")
    if status == 429:
        return DownloadError(
            f"{where}: Kaggle still refuses after {MAX_TRIES} tries, because of too many requests from here. "
            "Wait some minutes and pull again."
        )
    return DownloadError(f"{where}: Kaggle answered {status}. What came so far is kept; pull again later.")
