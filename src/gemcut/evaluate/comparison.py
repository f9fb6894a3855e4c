"""Two runs on the same items: what changed, and whether chance explains it."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gemcut.errors import UsageError
from gemcut.evaluate.item_store import ItemRecord
from gemcut.evaluate.run_folder import RunFolder, item_score
from gemcut.evaluate.statistics import Interval, bootstrap_means, holm, mcnemar, mean, percentiles

LEVEL = 0.05
# What decides which question an item is; the rest of a task's facts may differ.
_SETTINGS_WITHOUT_SHOTS = ("num_shots", "chat", "system", "limit")
_SETTINGS = (*_SETTINGS_WITHOUT_SHOTS, "shot_sampling", "seed")


@dataclasses.dataclass(frozen=True)
class TaskComparison:
    """One metric of one task in both runs; shares are in points.

    Attributes:
        task, title, metric: What is compared.
        is_primary: Whether it is the metric that is quoted of the task.
        num_items: Items that both runs have.
        a, b: Means over them.
        difference: b less a.
        interval: 95 %, by a paired bootstrap of the items' differences.
        p_value: McNemar's exact one, where each item is right or wrong; None elsewhere.
        p_holm: The same, corrected for the number of tasks; of primary metrics alone.
        lost, gained: Items that only A, or only B, has right, by id; where items are no more than right or wrong.
        higher_is_better: As the task says.
        unit: "%" for shares.
    """

    task: str
    title: str
    metric: str
    is_primary: bool
    num_items: int
    a: float
    b: float
    difference: float
    interval: Interval
    p_value: float | None
    p_holm: float | None
    lost: tuple[str, ...]
    gained: tuple[str, ...]
    higher_is_better: bool | None
    unit: str

    @property
    def verdict(self) -> str:
        """Which is better: "B better", "A better", "differ" where neither is, or "no difference shown"."""
        p_value = self.p_value if self.p_holm is None else self.p_holm
        if p_value is not None:
            is_shown = p_value < LEVEL
        else:
            is_shown = not self.interval.low <= 0 <= self.interval.high
        if not is_shown:
            return "no difference shown"
        if self.higher_is_better is None:
            return "differ"
        return "B better" if (self.difference > 0) == self.higher_is_better else "A better"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        a, b: Names of the models and folders.
        tasks: Each metric of each task that both have.
        mean_difference: Mean of the primary metrics' differences, each task weighing the same, in points; None without
            shares.
        mean_interval: Its 95 % interval, by the tasks' bootstraps.
        lost, gained: Numbers of items of all tasks that only A, or only B, has right.
        p_value: McNemar's exact one of those; None where no task's items are right or wrong.
        notes: What was left out, and settings that differ.
    """

    a: Mapping[str, str]
    b: Mapping[str, str]
    tasks: tuple[TaskComparison, ...]
    mean_difference: float | None
    mean_interval: Interval | None
    lost: int
    gained: int
    p_value: float | None
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        found = dataclasses.asdict(self)
        for row, task in zip(found["tasks"], self.tasks, strict=True):
            row["verdict"] = task.verdict
        return found


def compare_runs(
    a: RunFolder, b: RunFolder, *, tasks: Sequence[str] = (), any_settings: bool = False, seed: int = 0
) -> Comparison:
    """Compare two runs item by item.

    Args:
        a, b: The runs; differences are b less a.
        tasks: The tasks to compare; empty for all that both have.
        any_settings: Compare also where the settings differ, on the items that both have.
        seed: Of the bootstrap.

    Raises:
        UsageError: they have no task in common, or another number of shots, other data or other items.
        NotFoundError, DataError: of the runs' files.
    """
    names = [name for name in a.tasks if name in b.tasks and (not tasks or name in tasks)]
    if absent := [name for name in tasks if name not in names]:
        raise UsageError(f"--tasks {absent[0]}: is not in both runs, expected some of {_common(a, b)}.")
    if not names:
        raise UsageError(
            f"{a.path} and {b.path}: have no task in common ({', '.join(a.tasks)}; {', '.join(b.tasks)}). Run the same "
            "tasks with both."
        )
    rows: list[TaskComparison] = []
    samples: list[np.ndarray] = []
    notes = [
        f"only in {side}: {', '.join(left)}"
        for side, one, other in (("A", a, b), ("B", b, a))
        if not tasks and (left := [name for name in one.tasks if name not in other.tasks])
    ]
    for name in names:
        notes += _checked_settings(name, a, b, any_settings)
        pairs, note = _paired(name, a, b, any_settings)
        notes += note
        found, drawn, note = _compared(name, a.tasks[name], pairs, seed)
        rows += found
        samples += drawn
        notes += note
    return _summary(a, b, _with_holm(rows), samples, notes)


def _checked_settings(name: str, a: RunFolder, b: RunFolder, any_settings: bool) -> list[str]:
    """Notes of settings that differ.

    Raises:
        UsageError: some do, and none may.
    """
    one, other = a.tasks[name], b.tasks[name]
    data = [(task.get("data") or {}).get("sha256") for task in (one, other)]
    if data[0] != data[1]:
        raise UsageError(
            f"{name}: its data have the SHA-256 {data[0]} in {a.path} and {data[1]} in {b.path}, expected the same "
            "rows. Run both on the same file."
        )
    matters = _SETTINGS if one["num_shots"] or other["num_shots"] else _SETTINGS_WITHOUT_SHOTS
    differ = [
        f"{key} is {one.get(key)} in A and {other.get(key)} in B" for key in matters if one.get(key) != other.get(key)
    ]
    if differ and not any_settings:
        raise UsageError(
            f"{name}: {'; '.join(differ)}, expected the same settings in {a.path} and {b.path}. Run both alike, or "
            "compare across settings with --any-settings."
        )
    return [f"{name}: {each}" for each in differ]


def _paired(
    name: str, a: RunFolder, b: RunFolder, any_settings: bool
) -> tuple[list[tuple[ItemRecord, ItemRecord]], list[str]]:
    """The items that both runs have, in A's order, and a note of how many are left out.

    Raises:
        UsageError: the runs have other items.
    """
    one = {item.item_id: item for item in a.items(name)}
    other = {item.item_id: item for item in b.items(name)}
    common = [key for key in one if key in other]
    num_left = len(one) + len(other) - 2 * len(common)
    if (num_left and not any_settings) or not common:
        first = next((key for key in (*one, *other) if key not in one or key not in other), "none")
        raise UsageError(
            f"{name}: {a.path} has {len(one)} items and {b.path} has {len(other)}, {len(common)} of them in common, "
            f"expected the same (the first that is not in both is {first!r}). Run both with the same limit and shots, "
            "or compare what they have in common with --any-settings."
        )
    notes = [f"{name}: {num_left} items that only one run has are left out"] if num_left else []
    return [(one[key], other[key]) for key in common], notes


def _compared(
    name: str, task: Mapping[str, Any], pairs: Sequence[tuple[ItemRecord, ItemRecord]], seed: int
) -> tuple[list[TaskComparison], list[np.ndarray], list[str]]:
    """A row for each metric, the bootstrap of the primary one, and notes of metrics that are no means of items."""
    rows, samples, notes = [], [], []
    for metric, figure in task["metrics"].items():
        both = [(x, y) for x, y in pairs if None not in (item_score(x, metric), item_score(y, metric))]
        values = [item_score(x, metric) or 0.0 for x, _ in both]
        of_items = len(both) == len(pairs) < figure["num_items"] or (
            bool(values) and math.isclose(mean(values), figure["value"], abs_tol=1e-9)
        )
        if not of_items:
            notes.append(f"{name}: {metric} is no mean of items and is not compared")
            continue
        row, drawn = _row(name, task, metric, both, seed)
        rows.append(row)
        if row.is_primary and row.unit == "%":
            samples.append(drawn)
    return rows, samples, notes


def _row(
    name: str, task: Mapping[str, Any], metric: str, both: Sequence[tuple[ItemRecord, ItemRecord]], seed: int
) -> tuple[TaskComparison, np.ndarray]:
    figure = task["metrics"][metric]
    scale = 100.0 if figure["is_percent"] else 1.0
    values = [(item_score(x, metric) or 0.0, item_score(y, metric) or 0.0) for x, y in both]
    # A stream of its own for each task: the mean over tasks takes them to be independent.
    stream = (seed, zlib.crc32(name.encode()))
    drawn = scale * bootstrap_means([second - first for first, second in values], stream)
    lost: tuple[str, ...] = ()
    gained: tuple[str, ...] = ()
    p_value = None
    if all(value in (0.0, 1.0) for pair in values for value in pair):
        lost = tuple(x.item_id for (x, _), (first, second) in zip(both, values, strict=True) if first > second)
        gained = tuple(x.item_id for (x, _), (first, second) in zip(both, values, strict=True) if first < second)
        p_value = mcnemar(len(lost), len(gained))
    mean_a, mean_b = (scale * mean([pair[side] for pair in values]) for side in (0, 1))
    row = TaskComparison(
        task=name,
        title=task.get("title") or name,
        metric=metric,
        is_primary=metric == task["primary_metric"],
        num_items=len(values),
        a=mean_a,
        b=mean_b,
        difference=mean_b - mean_a,
        interval=percentiles(drawn),
        p_value=p_value,
        p_holm=None,
        lost=lost,
        gained=gained,
        higher_is_better=figure["higher_is_better"],
        unit="%" if figure["is_percent"] else "",
    )
    return row, drawn


def _with_holm(rows: Sequence[TaskComparison]) -> list[TaskComparison]:
    """The rows with the primary metrics' p-values corrected for their number."""
    tested = [row for row in rows if row.is_primary and row.p_value is not None]
    corrected = holm([row.p_value for row in tested if row.p_value is not None])
    p_holm = {row.task: value for row, value in zip(tested, corrected, strict=True)}
    return [
        dataclasses.replace(row, p_holm=p_holm[row.task]) if row.is_primary and row.task in p_holm else row
        for row in rows
    ]


def _summary(
    a: RunFolder, b: RunFolder, rows: Sequence[TaskComparison], samples: Sequence[np.ndarray], notes: Sequence[str]
) -> Comparison:
    primary = [row for row in rows if row.is_primary]
    shares = [row.difference for row in primary if row.unit == "%"]
    tested = [row for row in primary if row.p_value is not None]
    lost, gained = sum(len(row.lost) for row in tested), sum(len(row.gained) for row in tested)
    return Comparison(
        a={"model": a.model_name, "folder": str(a.path)},
        b={"model": b.model_name, "folder": str(b.path)},
        tasks=tuple(rows),
        mean_difference=mean(shares) if shares else None,
        mean_interval=percentiles(np.mean(samples, axis=0)) if samples else None,
        lost=lost,
        gained=gained,
        p_value=mcnemar(lost, gained) if tested else None,
        notes=tuple(notes),
    )


def _common(a: RunFolder, b: RunFolder) -> str:
    return ", ".join(name for name in a.tasks if name in b.tasks) or "none"


__all__ = ["Comparison", "TaskComparison", "compare_runs"]
