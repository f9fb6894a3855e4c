"""How far a tuning run is: on a terminal's standard error a bar, else a line now and then; and how it is stopped."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemcut.cli.output import print_notice, size_in_words

if TYPE_CHECKING:
    from gemcut.tune.run import Watcher
    from gemcut.tune.trainer import Progress

LINE_SECONDS = 20.0  # between two lines where there is no terminal
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask the run to stop after the step at hand; a second one stops at once, saving nothing.

    Yields:
        Whether that was asked.
    """
    asked: list[int] = []

    def stop(number: int, _: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        print_notice("Stopping after this step; all will be saved. Once more stops at once.")

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def watching(is_asked_to_stop: Callable[[], bool], quiet: bool) -> Iterator[Watcher]:
    """Show how far a run is.

    Yields:
        Who looks on; nothing is shown when `quiet`.
    """
    from gemcut.tune.data_report_text import print_report
    from gemcut.tune.run import Watcher

    if quiet:
        yield Watcher(is_asked_to_stop=is_asked_to_stop)
        return
    with _bar() if sys.stderr.isatty() else contextlib.nullcontext(_Lines().note) as note:
        yield Watcher(report=print_report, begins=_begins, progress=note, is_asked_to_stop=is_asked_to_stop)


def _begins(folder: Path, step: int, notices: tuple[str, ...]) -> None:
    print_notice(f"{folder}: goes on after step {step:,}" if step else f"{folder}: begins")
    if notices:
        print_notice(f"The result may differ from that of a run without interruption: {'; '.join(notices)}")


def in_words(progress: Progress) -> str:
    """Loss, speed and memory."""
    parts = []
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.held_out_loss is not None:
        parts.append(f"held out {progress.held_out_loss:.4f}")
    if progress.tokens_per_second is not None:
        parts.append(f"{progress.tokens_per_second:,.0f} tok/s")
    if progress.memory_bytes is not None:
        parts.append(size_in_words(progress.memory_bytes))
    return ", ".join(parts)


class _Lines:
    """A line at the first and the last step, and at most every LINE_SECONDS between them."""

    def __init__(self) -> None:
        self._last = -LINE_SECONDS

    def note(self, progress: Progress) -> None:
        """Take in how far it is."""
        now, is_last = time.monotonic(), progress.step == progress.num_steps
        if progress.stage != "training" or (now - self._last < LINE_SECONDS and not is_last):
            return
        self._last = now
        left = f", {_left(progress.seconds_left)} left" if progress.seconds_left else ""
        print_notice(f"step {progress.step:,}/{progress.num_steps:,}: {in_words(progress)}{left}")


def _left(seconds: float) -> str:
    from gemcut.tune.run_report import duration

    return duration(seconds)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[words]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", words="", left="")

        def note(progress: Progress) -> None:
            stage = "" if progress.stage == "training" else f", {progress.stage}"
            shown.update(
                task,
                description=f"step {progress.step:,}/{progress.num_steps:,}{stage}",
                completed=progress.step,
                total=progress.num_steps,
                words=in_words(progress),
                left=f"{_left(progress.seconds_left)} left" if progress.seconds_left else "",
            )

        yield note
