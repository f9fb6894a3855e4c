"""What downloads from every hub have in common: room on the disk, progress, checksums, stopping."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import logging
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gemcut.errors import DownloadError
from gemcut.files import sha256_of

T = TypeVar("T")
logger = logging.getLogger("gemcut")

# Called from several threads with a file's name, the bytes of it that are here, and its size.
Progress = Callable[[str, int, int], None]
# Several files side by side; a hub gives each connection a share of its bandwidth only.
NUM_WORKERS = 4
# Ending of what an interrupted download leaves.
UNFINISHED = ".incomplete"
MAX_TRIES = 5
_LONGEST_WAIT_SECONDS = 300
_LEAVE_SECONDS = 1.0
_CHUNK_BYTES = 1 << 20
_SPARE_BYTES = 64 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file as its hub announces it.

    Attributes:
        name: Its path in the repository, / between folders.
        num_bytes: Its size.
        digest_kind: "sha256", "crc32c", "git object" (sha1 over size and content), or empty where the hub gives none.
        digest: In lower-case hexadecimal.
    """

    name: str
    num_bytes: int
    digest_kind: str = ""
    digest: str = ""


class Stopped(Exception):
    """Another file of the same download failed, or the user pressed Ctrl-C."""


class Meter:
    """Counts the bytes of one file, tells `progress`, and stops the download when told to."""

    def __init__(self, file: RemoteFile, progress: Progress | None, stop: threading.Event) -> None:
        self.file, self.progress, self.stop = file, progress, stop
        self.done_bytes = 0

    def set(self, done_bytes: int) -> None:
        """Tell that so much of the file is here.

        Raises:
            Stopped: the whole download ends.
        """
        self.done_bytes = done_bytes
        if self.progress:
            self.progress(self.file.name, min(done_bytes, self.file.num_bytes), self.file.num_bytes)
        if self.stop.is_set():
            raise Stopped

    def add(self, num_bytes: int) -> None:
        """Tell that more of the file is here; raises as `set`."""
        self.set(self.done_bytes + num_bytes)


def side_by_side(
    files: Sequence[RemoteFile], fetch: Callable[[RemoteFile, Meter], None], progress: Progress | None
) -> None:
    """Fetch files in several threads; the first failure, or Ctrl-C, stops the others and is raised.

    The threads are daemons and are waited for only shortly, so that a silent server cannot keep a user who has given
    up; what they have written stays.
    """
    stop = threading.Event()
    waiting: queue.SimpleQueue[RemoteFile] = queue.SimpleQueue()
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    for file in files:
        waiting.put(file)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while not stop.is_set():
                file = waiting.get_nowait()
                try:
                    fetch(file, Meter(file, progress, stop))
                except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
                    ended.put(error)
                else:
                    ended.put(None)

    threads = [threading.Thread(target=work, daemon=True) for _ in files[:NUM_WORKERS]]
    for thread in threads:
        thread.start()
    try:
        for _ in files:
            if (error := ended.get()) is not None:
                raise error
    finally:
        stop.set()
        deadline = time.monotonic() + _LEAVE_SECONDS
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))


def check_space(folder: Path, needed_bytes: int, what: str, variable: str) -> None:
    """See that a download fits before it begins.

    Args:
        folder: Where it goes; need not exist yet.
        needed_bytes: Bytes still to come.
        what: The model, for the message.
        variable: The environment variable that moves `folder`, for the message.

    Raises:
        DownloadError: the disk has less room.
    """
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free_bytes = shutil.disk_usage(place).free
    if needed_bytes and free_bytes < needed_bytes + _SPARE_BYTES:
        raise DownloadError(
            f"{folder}: {free_bytes / 1e9:.2f} GB are free, expected at least "
            f"{(needed_bytes + _SPARE_BYTES) / 1e9:.2f} GB for {what}. "
            f"Free some space (gemcut models, gemcut rm), or name a folder on another disk in {variable}."
        )


def disk_error(what: str, folder: Path, problem: OSError) -> DownloadError:
    """The error for a file that the system does not let us write."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return DownloadError(
            f"{what}: the disk of {folder} is full. What came so far is kept; free some space and pull again."
        )
    reason = problem.strerror or str(problem)
    return DownloadError(f"{what}: could not be written to {folder} ({reason}). Check the folder's permissions.")


def check_name(name: str, where: str) -> None:
    """See that a file's name stays inside the folder that it is put into, and shows itself whole on a terminal.

    Raises:
        DownloadError: it does not.
    """
    parts = name.split("/")
    if os.path.isabs(name) or "\\" in name or not {"", ".", ".."}.isdisjoint(parts) or not name.isprintable():
        raise DownloadError(f"{where}: lists {name!r}, which is no name of a file in its folder. Do not use it.")


def check_content(path: Path, file: RemoteFile, where: str) -> None:
    """See that a downloaded file is the one that was announced; one that is not is removed.

    Raises:
        DownloadError: size or digest differ.
    """
    kind, found, expected = "bytes", str(path.stat().st_size), str(file.num_bytes)
    if found == expected and file.digest_kind:
        kind, found, expected = file.digest_kind, _digest_of(path, file.digest_kind), file.digest
    if found != expected:
        path.unlink()
        raise DownloadError(
            f"{where}/{file.name}: came with {kind} {found}, expected {expected}. The damaged copy was removed; "
            "pull again, and if this stays, a proxy between here and the hub changes files."
        )


def _digest_of(path: Path, kind: str) -> str:
    if kind == "sha256":
        return sha256_of(path)
    if kind == "crc32c":
        import google_crc32c  # comes with the client of the only hub that uses it

        digest: Any = google_crc32c.Checksum()
    else:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest().hex()


def patiently(call: Callable[[], T], seconds_to_wait: Callable[[Exception], float | None], where: str) -> T:
    """What `call` returns, tried again as long as its hub asks for patience.

    Args:
        call: What is done; it goes on where it stopped.
        seconds_to_wait: The time to wait before the next try after an exception; None when waiting does not help.
        where: The model, for the notice on each wait.

    Raises:
        Exception: that of the last try.
    """
    for _ in range(MAX_TRIES - 1):
        try:
            return call()
        except Exception as error:
            seconds = seconds_to_wait(error)
            if seconds is None:
                raise
            logger.warning("%s: the hub is busy or cut us off; next try in %.0f s.", where, seconds)
            time.sleep(seconds)
    return call()


def asked_seconds(status: int, retry_after: str | None) -> float | None:
    """The wait that an answer of a hub asks for; None when it means no, or asks for longer than anyone waits."""
    if status not in (429, 503):
        return None
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else 1.0
    return seconds if seconds <= _LONGEST_WAIT_SECONDS else None
