"""A file that is written front to back while another thread takes its SHA-256."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

_QUEUE_LENGTH = 8


class HashedFile:
    """A new file; a context manager that closes it.

    Args:
        path: Overwritten if it is there.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed by __exit__
        self._digest = hashlib.sha256()
        self._queue: queue.Queue[Any] = queue.Queue(_QUEUE_LENGTH)
        self._thread = threading.Thread(target=self._hash, daemon=True)
        self._thread.start()
        self.num_bytes = 0

    def write(self, data: Any) -> None:
        """Append the bytes of a buffer, which must not change any more."""
        view = memoryview(data).cast("B")
        self._queue.put(view)
        done = 0
        while done < len(view):
            done += self._file.write(view[done:])
        self.num_bytes += len(view)

    def finish(self) -> str:
        """Wait for the disk; the SHA-256 of everything, in hexadecimal."""
        os.fsync(self._file.fileno())
        self._stop()
        return self._digest.hexdigest()

    def _hash(self) -> None:
        while (data := self._queue.get()) is not None:
            self._digest.update(data)

    def _stop(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()
        self._file.close()
