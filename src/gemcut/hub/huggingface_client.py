"""Hugging Face's client: whether it is installed, and its exceptions in our words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gemcut.errors import DownloadError, GemcutError, MissingExtraError, NotFoundError, UsageError
from gemcut.hub.transfer import MAX_TRIES, disk_error

_PAGE = "https://huggingface.co"
_SET_TOKEN = f"make a read token at {_PAGE}/settings/tokens and set it as HF_TOKEN (or log in: hf auth login)"


def import_client() -> Any:
    """Hugging Face's client.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError:
        raise MissingExtraError(
            'huggingface_hub, the client of the Hugging Face Hub, is not installed. Run: pip install "gemcut[hub]"'
        ) from None
    return huggingface_hub


def page_of(repository: str) -> str:
    """The address of a repository's page."""
    return f"{_PAGE}/{repository}"


@contextlib.contextmanager
def plain_words(repository: str, revision: str | None, token: str | None, folder: Path) -> Iterator[None]:
    """Translate the client's exceptions into ours."""
    import_client()
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    where = f"hf:{repository}"
    try:
        yield
    except GemcutError:
        raise
    except LocalEntryNotFoundError as error:
        raise _translated(error.__cause__ or error, repository, revision, token) from None
    except HFValidationError as error:
        raise UsageError(f"{where}: not a name that the Hub can have ({error}). Check it at {_PAGE}.") from None
    except (HfHubHTTPError, httpx2.HTTPError, OfflineModeIsEnabled) as error:
        raise _translated(error, repository, revision, token) from None
    except OSError as error:
        if "Consistency check failed" in str(error):
            raise DownloadError(
                f"{where}: a file came shorter than announced. What came is kept; pull again."
            ) from None
        raise disk_error(where, folder, error) from None


def _translated(error: BaseException, repository: str, revision: str | None, token: str | None) -> GemcutError:
    """One of the client's exceptions about the Hub or the network, in our words."""
    import httpx2
    from huggingface_hub import errors, get_token

    where, page = f"hf:{repository}", page_of(repository)
    has_token = bool(token or get_token())
    match error:
        case errors.GatedRepoError() if has_token:
            return DownloadError(
                f"{where}: access is gated, and the account of your token has not been let in. "
                f"Visit {page}, accept the terms there with that account, and pull again."
            )
        case errors.GatedRepoError():
            return DownloadError(
                f"{where}: access is gated by its owner's terms, and no token was sent. "
                f"Visit {page}, log in and accept the terms there; then {_SET_TOKEN} and pull again."
            )
        case errors.RevisionNotFoundError():
            return NotFoundError(f"{where}: has no revision {revision}. The branches and tags are at {page}/tree/main.")
        case errors.RemoteEntryNotFoundError():
            return NotFoundError(f"{where}: a file that it lists is not there. Pull again later.")
        case errors.RepositoryNotFoundError():
            hint = "your token does not see it" if has_token else f"it is private: {_SET_TOKEN}"
            return NotFoundError(
                f"{where}: the Hub has no repository of this name, or {hint}. Check the name at {page}."
            )
        case errors.HfHubHTTPError(response=response) if response.status_code == 401:
            return DownloadError(f"{where}: the Hub refused the token. It may have expired: {_SET_TOKEN}.")
        case errors.HfHubHTTPError(response=response) if response.status_code == 429:
            return DownloadError(
                f"{where}: the Hub still refuses after {MAX_TRIES} tries, because of too many requests from here. "
                "Wait some minutes and pull again; with a token (HF_TOKEN) it allows more."
            )
        case errors.HfHubHTTPError(response=response):
            return DownloadError(
                f"{where}: the Hub answered {response.status_code} {response.reason_phrase}. "
                "What came so far is kept; pull again later."
            )
        case errors.OfflineModeIsEnabled():
            return DownloadError(f"{where}: HF_HUB_OFFLINE is set, so nothing is downloaded. Unset it and pull again.")
        case httpx2.TimeoutException():
            return DownloadError(
                f"{where}: the Hub did not answer in time. What came so far is kept; pull again, "
                "or allow more seconds in HF_HUB_DOWNLOAD_TIMEOUT and HF_HUB_ETAG_TIMEOUT."
            )
    return DownloadError(
        f"{where}: the Hub could not be reached ({error}). Check the network; what came so far is kept, so pull again."
    )
