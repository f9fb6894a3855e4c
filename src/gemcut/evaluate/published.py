"""Published scores, each with its source, and what a measured score says about them."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from gemcut.errors import UsageError

QUANTISED_POINTS = 1.0  # what quantised weights may cost, in points
WHOLE_SHARE = 0.95  # of the items: below it, the rest may be of another difficulty
BASELINES = ("llama-2-7b", "llama-2-13b", "mistral-7b", "gemma-2b", "gemma-7b")
_FLOATS = ("float32", "float16", "bfloat16", "f32", "f16", "bf16")
_QUANTISED_NAME = re.compile(r"(?<![a-z0-9])i?q[2-8]_|(?<![a-z0-9])(int[48]|4bit|8bit)(?![a-z0-9])")


@dataclasses.dataclass(frozen=True)
class Column:
    """A model that scores were published of.

    Attributes:
        key: How --published names it.
        title: For people.
        names: What the model is called in references.
        is_tuned: Whether it follows a chat template.
    """

    key: str
    title: str
    names: tuple[str, ...]
    is_tuned: bool


@dataclasses.dataclass(frozen=True)
class PublishedScore:
    """One number of a table.

    Attributes:
        column: The model's key.
        benchmark: The benchmark's key.
        score: In points, 0 to 100.
        shots: Solved examples: a number, (fewest, most), or None where the source does not say.
        metric: Gemcut's name of the metric; None where the source does not say.
        setting: As printed.
        source, url: The document and its table.
        mark: "*", "†" or both, as printed; "" for none.
        notes: What must be known of this number.
        source_notes: What must be known of the whole table.
        kind: "capability" or "safety".
        caveat: Why no task of Gemcut measures just this; "" where one does.
    """

    column: str
    benchmark: str
    score: float
    shots: int | tuple[int, int] | None
    metric: str | None
    setting: str
    source: str
    url: str
    mark: str
    notes: tuple[str, ...]
    source_notes: tuple[str, ...]
    kind: str
    caveat: str


@functools.cache
def published_data() -> Mapping[str, Any]:
    """The file of published scores as it stands."""
    text = (resources.files("gemcut.evaluate") / "published.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


@functools.cache
def columns() -> Mapping[str, Column]:
    """Every model with published scores, by its key."""
    given = published_data()["columns"]
    return {key: Column(key, each["title"], tuple(each["names"]), each["is_tuned"]) for key, each in given.items()}


@functools.cache
def published_scores() -> tuple[PublishedScore, ...]:
    """Every published score, in the order of the tables."""
    return tuple(
        PublishedScore(
            column=column,
            benchmark=row["benchmark"],
            score=score,
            shots=tuple(row["shots"]) if isinstance(row.get("shots"), list) else row.get("shots"),
            metric=row.get("metric"),
            setting=row["setting"],
            source=table["source"],
            url=table["url"],
            mark=row.get("marks", {}).get(column, ""),
            notes=_notes(table, row, column),
            source_notes=tuple(table.get("notes", ())),
            kind=table["kind"],
            caveat=row.get("caveat", ""),
        )
        for table in published_data()["tables"]
        for row in table["rows"]
        for column, score in zip(table["columns"], row["scores"], strict=True)
    )


def _notes(table: Mapping[str, Any], row: Mapping[str, Any], column: str) -> tuple[str, ...]:
    marks = [text for mark, text in table.get("marks", {}).items() if mark in row.get("marks", {}).get(column, "")]
    own = [note for key, note in row.get("notes", {}).items() if key in (column, "all")]
    return (*own, *marks)


def points_text(score: float) -> str:
    """A published score with the decimals that it was printed with: one, or two where it has them."""
    return f"{score:.1f}" if math.isclose(score, round(score, 1), abs_tol=1e-9) else f"{score:.2f}"


def scores_of(column: str, benchmark: str) -> list[PublishedScore]:
    """What was published of a model on a benchmark; several where it was measured in several settings."""
    return [score for score in published_scores() if (score.column, score.benchmark) == (column, benchmark)]


def benchmarks_of(task: str) -> list[str]:
    """The benchmarks that a task measures: most often one, none for a task without published scores."""
    return [key for key, each in published_data()["benchmarks"].items() if task in each["tasks"]]


def tasks_of(benchmark: str) -> list[str]:
    """The tasks that measure a benchmark, the usual one first; a name that is no benchmark's is itself a task's."""
    return list(published_data()["benchmarks"].get(benchmark, {"tasks": [benchmark]})["tasks"])


def benchmark_title(benchmark: str) -> str:
    """A benchmark's name for people."""
    return str(published_data()["benchmarks"].get(benchmark, {"title": benchmark})["title"])


def choose_column(model: Mapping[str, Any], asked: str | None = None) -> tuple[Column | None, str]:
    """Which published model a measured one is, and how that is known.

    Args:
        model: What the run says of the model: its "name", and whether it has an adapter.
        asked: The user's --published; "none" for none.

    Raises:
        UsageError: no scores were published under that name.
    """
    if asked == "none":
        return None, "--published none"
    if asked is not None:
        if asked not in columns():
            raise UsageError(f"--published {asked}: expected one of {', '.join(columns())}, or none.")
        return columns()[asked], f"--published {asked}"
    if model.get("adapter_sha256"):
        return None, "an adapter makes it another model; --published names a column all the same"
    name = str(model["name"]).lower()
    found = [
        (len(alias), column, alias)
        for column in columns().values()
        for alias in column.names
        if re.search(rf"(?<![a-z0-9-]){re.escape(alias)}(?!-?(it|instruct|chat)(?![a-z0-9]))(?![a-z0-9])", name)
    ]
    if not found:
        return None, f"no scores were published under a name like {model['name']!r}; --published names a column"
    _, column, alias = max(found, key=lambda each: each[0])
    return column, f"the model's name is {alias!r}" if alias == name else f"{alias!r} is in the model's name, {name!r}"


def is_quantised(model: Mapping[str, Any]) -> bool:
    """Whether a run's model has weights of less than 16 bits: by its type, or by its name."""
    dtype, name = str(model.get("dtype", "float32")).lower(), str(model["name"]).lower()
    return dtype not in _FLOATS or name == "starter" or bool(_QUANTISED_NAME.search(name))


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A measured score against a published one.

    Attributes:
        published: The published score.
        metric: The measured metric that is compared.
        difference: Measured less published, in points.
        tolerance: 2 standard errors, and 1 point for quantised weights; None where the error is unknown.
        setting: "matched", "not stated" where the source leaves something open, or "different".
        word: "reproduced", "below", "above" or "not comparable".
        why: Of the setting or the word; "" where there is nothing to add.
    """

    published: PublishedScore
    metric: str
    difference: float
    tolerance: float | None
    setting: str
    word: str
    why: str


def verdicts(
    task: Mapping[str, Any], scores: Sequence[PublishedScore], *, is_quantised: bool, is_tuned: bool
) -> list[Verdict]:
    """What a measured task says of each published score of its benchmark, matched settings first.

    Args:
        task: The task's facts, as in results.json.
        scores: The published ones, see `scores_of`.
        is_quantised: Whether the measured weights have less than 16 bits.
        is_tuned: Whether the published model follows a chat template.
    """
    order = {"matched": 0, "not stated": 1, "different": 2}
    found = [_verdict(task, score, is_quantised, is_tuned) for score in scores]
    return sorted((each for each in found if each is not None), key=lambda each: order[each.setting])


def _verdict(task: Mapping[str, Any], score: PublishedScore, is_quantised: bool, is_tuned: bool) -> Verdict | None:
    metric = score.metric if score.metric is not None and score.metric in task["metrics"] else task["primary_metric"]
    figure = task["metrics"].get(metric)
    if figure is None or not figure["is_percent"]:
        return None
    difference, stderr = 100 * figure["value"] - score.score, figure["stderr"]
    tolerance = None if stderr is None else 200 * stderr + (QUANTISED_POINTS if is_quantised else 0.0)
    setting, why = _setting(task, score, metric, is_tuned)
    part = task["num_items"] < WHOLE_SHARE * task["num_total"]
    if part:
        why = f"only {task['num_items']:,} of {task['num_total']:,} items" + (f"; {why}" if why else "")
    if setting == "different" or part or tolerance is None:
        word = "not comparable"
    elif abs(difference) <= tolerance:
        word = "reproduced"
    else:
        word = "above" if difference > 0 else "below"
    return Verdict(score, metric, difference, tolerance, setting, word, why or ("" if stderr else "no standard error"))


def _setting(task: Mapping[str, Any], score: PublishedScore, metric: str, is_tuned: bool) -> tuple[str, str]:
    """Whether the published setting is the measured one, and what is not."""
    shots = task["num_shots"]
    low, high = score.shots if isinstance(score.shots, tuple) else (score.shots, score.shots)
    if low is not None and high is not None and not low <= shots <= high:
        return "different", f"{shots}-shot, published {score.setting}"
    if score.caveat:
        return "different", score.caveat
    if score.metric is not None and score.metric != metric:
        return "different", f"{metric}, published {score.metric}"
    if bool(task.get("chat")) != is_tuned:
        return "different", f"measured {'with' if task.get('chat') else 'without'} the chat template"
    if low is None:
        return "not stated", f"{shots}-shot, the source says {score.setting!r}"
    return "matched", ""
