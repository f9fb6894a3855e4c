"""How far an evaluation is: on a terminal's standard error a bar with items, speed and time left, else lines."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gemcut.cli.output import print_notice

if TYPE_CHECKING:
    from gemcut.evaluate.task_run import Progress


@contextlib.contextmanager
def eval_progress(quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """Show how far it is.

    Yields:
        What is to be told; None where nothing is shown.
    """
    if quiet:
        yield None
    elif not sys.stderr.isatty():
        yield _Lines().note
    else:
        with _bar() as note:
            yield note


class _Lines:
    """A line when a task begins and one when it ends."""

    def __init__(self) -> None:
        self._clock = _Clock()
        self._begun: str | None = None

    def note(self, progress: Progress) -> None:
        """Take in how far it is."""
        if progress.stage != "asking":
            return
        speed = self._clock.speed(progress)
        name = f"{progress.task} ({progress.number}/{progress.num_tasks})"
        if self._begun != progress.task:
            self._begun = progress.task
            known = f", {progress.num_done} known already" if progress.num_done else ""
            print_notice(f"{name}: {progress.num_items} items{known}")
        elif progress.num_done == progress.num_items and speed:
            print_notice(f"{name}: done, {speed:.1f} items/s")


class _Clock:
    """Items a second of a task, those left out that were known before."""

    def __init__(self) -> None:
        self._task, self._begin, self._known = "", 0.0, 0

    def speed(self, progress: Progress) -> float | None:
        """Items a second so far; None before the first."""
        if progress.task != self._task:
            self._task, self._begin, self._known = progress.task, time.perf_counter(), progress.num_done
        seconds, num_asked = time.perf_counter() - self._begin, progress.num_done - self._known
        return num_asked / seconds if num_asked and seconds else None


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[items]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    clock = _Clock()
    with Bar(*columns, console=Console(stderr=True), transient=True) as shown:
        ids: dict[tuple[str, str], int] = {}

        def note(progress: Progress) -> None:
            title = f"{progress.task} {progress.number}/{progress.num_tasks}"
            items = f"{progress.num_done:,}/{progress.num_items:,} items"
            done, total = progress.num_done, progress.num_items
            if progress.stage == "asking":
                speed = clock.speed(progress)
                items += f" {speed:.1f}/s" if speed else ""
                done, total = progress.tokens_done, progress.num_tokens
            else:
                title += f" {progress.stage}"
            key = (progress.task, progress.stage)
            if key not in ids:
                for task_id in shown.task_ids:
                    shown.remove_task(task_id)
                ids[key] = shown.add_task(title, total=total, items=items)
            shown.update(ids[key], completed=done, total=total, items=items)  # type: ignore[arg-type]

        yield note
