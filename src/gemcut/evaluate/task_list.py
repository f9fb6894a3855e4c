"""What tasks there are, and whether their data is here."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from gemcut.errors import NotFoundError
from gemcut.evaluate.data import DataFolders, known_data_sets
from gemcut.evaluate.task import Task
from gemcut.evaluate.task_file import load_task, task_names


@dataclasses.dataclass(frozen=True)
class ListedTask:
    """A task for people.

    Attributes:
        name, title, kind, licence, metrics, notes: As of the task.
        num_shots: Solved examples unless told otherwise.
        num_rows: Rows that are scored.
        data: "here", "examples missing", or "missing"; whether files are whole is seen when they are read.
    """

    name: str
    title: str
    kind: str
    num_shots: int
    num_rows: int
    licence: str
    data: str
    metrics: tuple[str, ...]
    notes: tuple[str, ...]


def list_tasks(folders: Sequence[Path] = ()) -> list[ListedTask]:
    """All tasks that Gemcut brings, in alphabetical order.

    Args:
        folders: Where data sets are looked for, before the cache.
    """
    data = DataFolders(folders)
    return [_listed(load_task(name), data) for name in task_names()]


def _listed(task: Task, data: DataFolders) -> ListedTask:
    known = known_data_sets()[task.data_set]["files"]
    joined = (task.joined[0],) if task.joined else ()
    if not all(_is_here(data, task, file) for file in (*task.files, *joined)):
        state = "missing"
    elif task.num_shots and not any(_is_here(data, task, file) for file in task.shots.files):
        state = "examples missing"
    else:
        state = "here"
    num_rows = task.num_rows or sum(known[file]["rows"] for file in task.files)
    return ListedTask(
        task.name, task.title, task.kind, task.num_shots, num_rows, task.licence, state, task.metrics, task.notes
    )


def _is_here(data: DataFolders, task: Task, file: str) -> bool:
    try:
        data.path(task.data_set, file)
    except NotFoundError:
        return False
    return True


__all__ = ["ListedTask", "list_tasks"]
