"""Groups of tasks whose mean is shown: question answering, reasoning, maths and science, coding."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from gemcut.errors import DataError, MissingExtraError
from gemcut.evaluate.published import BASELINES, benchmark_title, scores_of, tasks_of
from gemcut.evaluate.statistics import Interval, mean_of_figures, mean_of_intervals
from gemcut.files import read_bytes

MAX_GROUPS_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Group:
    """A name and its members: benchmarks, or a user's own tasks."""

    name: str
    members: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class GroupFigure:
    """The mean of a group, in points.

    Attributes:
        group: The group.
        measured: Members that were measured, by the task that did.
        missing: Members that were not.
        value, stderr: Mean of the measured members, each weighing the same, and its standard error; None where there is
            none.
        interval: Of the mean, from the members' errors; None where one is unknown.
        published: Mean of the same members as published, or of all where none was measured; by column, for columns that
            have them all.
    """

    group: Group
    measured: Mapping[str, str]
    missing: tuple[str, ...]
    value: float | None
    stderr: float | None
    interval: Interval | None
    published: Mapping[str, float]

    @property
    def is_complete(self) -> bool:
        """Whether every member was measured."""
        return not self.missing

    def members_in_words(self) -> str:
        """The members, with those that are missing behind them."""
        have = ", ".join(benchmark_title(member) for member in self.group.members if member in self.measured)
        if self.is_complete:
            return have
        missing = ", ".join(benchmark_title(member) for member in self.missing)
        return f"{have}; incomplete, without {missing}" if have else f"not measured: {missing}"


def load_groups(path: Path | None = None) -> list[Group]:
    """The groups of a YAML file, else Gemcut's own.

    Raises:
        NotFoundError: there is no such file.
        DataError: it is no mapping of names to lists of tasks.
        MissingExtraError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError:
        raise MissingExtraError(
            'Groups of tasks need PyYAML, which is not installed. Install the extra: pip install "gemcut[eval]".'
        ) from None
    own = resources.files("gemcut.evaluate") / "groups.yaml"
    data = own.read_bytes() if path is None else read_bytes(path, MAX_GROUPS_BYTES, DataError)
    try:
        given = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: is not YAML ({' '.join(str(error).split())}). Correct it.") from None
    if not isinstance(given, dict) or not given:
        raise DataError(f"{path}: is {type(given).__name__}, expected lines such as `coding: [humaneval, mbpp]`.")
    for name, members in given.items():
        if not isinstance(members, list) or not members or not all(isinstance(each, str) for each in members):
            raise DataError(f"{path}: {name} is {members!r}, expected a list of tasks, such as [humaneval, mbpp].")
        if len(set(members)) < len(members):
            raise DataError(f"{path}: {name} names a task twice, expected each once. Delete one.")
    return [Group(str(name), tuple(members)) for name, members in given.items()]


def group_figures(
    groups: Sequence[Group], tasks: Mapping[str, Any], intervals: Mapping[str, Interval | None]
) -> list[GroupFigure]:
    """The groups' means of a run.

    Args:
        groups: See `load_groups`.
        tasks: Facts of the tasks, as in results.json; the primary metric of each counts.
        intervals: Of those metrics, in points, by task.
    """
    return [_figure(group, tasks, intervals) for group in groups]


def _figure(group: Group, tasks: Mapping[str, Any], intervals: Mapping[str, Interval | None]) -> GroupFigure:
    measured: dict[str, str] = {}
    for member in group.members:
        task = next((name for name in (member, *tasks_of(member)) if name in tasks), None)
        if task is not None and _primary(tasks[task])["is_percent"]:
            measured[member] = task
    missing = tuple(member for member in group.members if member not in measured)
    figures = [_primary(tasks[task]) for task in measured.values()]
    points = [100 * figure["value"] for figure in figures]
    value, stderr = mean_of_figures(points, [_points(each["stderr"]) for each in figures]) if points else (None, None)
    interval = mean_of_intervals(points, [intervals.get(task) for task in measured.values()]) if points else None
    published = published_means(tuple(measured) or group.members)
    return GroupFigure(group, measured, missing, value, stderr, interval, published)


def published_means(members: Sequence[str]) -> dict[str, float]:
    """Mean of published scores of benchmarks, by column, of the Gemma report's table."""
    found = {}
    for column in BASELINES:
        scores = [scores_of(column, member)[:1] for member in members]
        if scores and all(scores):
            found[column] = sum(each[0].score for each in scores) / len(scores)
    return found


def _primary(task: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict(task["metrics"][task["primary_metric"]])


def _points(stderr: float | None) -> float | None:
    return None if stderr is None else 100 * stderr
