"""A download at the terminal: bars in bytes on standard error, or a line for each file."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gemcut.cli.output import print_notice, size_in_words
from gemcut.errors import NotFoundError

if TYPE_CHECKING:
    from gemcut.hub.transfer import Progress


def download(
    reference: str, *, revision: str | None = None, files: Sequence[str] | None = None, quiet: bool = False
) -> Path:
    """Pull a model and show how far it is; arguments and errors as in `gemcut.hub.pull`."""
    from gemcut.hub import pull

    with _shown(quiet) as progress:
        return pull(reference, revision=revision, files=files, progress=progress)


def pull_missing(reference: str, quiet: bool) -> None:
    """Pull a model if it is not on this machine; where it is, the network is not used."""
    from gemcut.hub import resolve

    try:
        resolve(reference)
    except NotFoundError:
        download(reference, quiet=quiet)


@contextlib.contextmanager
def _shown(quiet: bool) -> Iterator[Progress | None]:
    if quiet:
        yield None
    elif not sys.stderr.isatty():
        yield _lines()
    else:
        with _bars() as progress:
            yield progress


def _lines() -> Progress:
    """A line for each file that is here."""
    told: set[str] = set()

    def show(name: str, done_bytes: int, num_bytes: int) -> None:
        if done_bytes == num_bytes and name not in told:
            told.add(name)
            print_notice(f"{name}  {size_in_words(num_bytes)}")

    return show


@contextlib.contextmanager
def _bars() -> Iterator[Progress]:
    """A bar for each file that is on its way."""
    from rich import progress
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(True), TransferSpeedColumn())
    with progress.Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as display:
        tasks: dict[str, progress.TaskID] = {}

        def show(name: str, done_bytes: int, num_bytes: int) -> None:
            if name not in tasks:
                tasks[name] = display.add_task(name, total=num_bytes)
            display.update(tasks[name], completed=done_bytes)

        yield show
