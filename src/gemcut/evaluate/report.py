"""What a run's report says: figures with intervals, groups, and verdicts against published scores; and its files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gemcut.evaluate import published as published_scores
from gemcut.evaluate.groups import GroupFigure, group_figures, load_groups
from gemcut.evaluate.item_store import ItemRecord
from gemcut.evaluate.report_table import verdict_of
from gemcut.evaluate.run_folder import RunFolder, item_score, read_run
from gemcut.evaluate.statistics import Interval, mean, mean_interval, normal_interval
from gemcut.files import atomic_write_bytes, atomic_write_text, json_bytes

_TASK_KEYS = (
    "title", "kind", "licence", "num_shots", "shot_sampling", "seed", "chat", "system", "limit", "num_items",
    "num_total", "primary_metric", "notes", "data", "seconds", "bos_check", "first_prompts",
)  # fmt: skip
_RUN_KEYS = ("gemcut", "date", "command", "suite", "model", "machine", "versions")
CSV_COLUMNS = (
    "task", "metric", "value", "stderr", "low", "high", "interval", "num_items", "num_total", "num_shots", "unit",
    "published", "published_source", "setting", "difference", "tolerance", "verdict", "why",
)  # fmt: skip


def build_report(run: RunFolder, published: str | None = None, groups: Path | None = None) -> dict[str, Any]:
    """The report of a run as plain values, which every form of it shows.

    Args:
        run: See `run_folder.read_run`.
        published: Key of the published column to compare with, or "none"; None chooses by the model's name.
        groups: A YAML file of groups; None for Gemcut's own.

    Returns:
        The run's facts; "published_column"; "tasks", a list, each with "metrics" and "published"; "groups". Shares are
        in points, 0 to 100.

    Raises:
        UsageError: there is no such column.
        NotFoundError, DataError: of the run's files, or the groups'.
    """
    column, why = published_scores.choose_column(run.facts["model"], published)
    is_quantised = published_scores.is_quantised(run.facts["model"])
    tasks = [_task(run, name, column, is_quantised) for name in run.tasks]
    return {
        **{key: run.facts.get(key) for key in _RUN_KEYS},
        "folder": run.path.name,
        "is_quantised": is_quantised,
        "published_column": {
            "key": column.key if column else None,
            "title": column.title if column else None,
            "why": why,
        },
        "baselines": {key: published_scores.columns()[key].title for key in published_scores.BASELINES},
        "tasks": tasks,
        "groups": [_group(each) for each in group_figures(load_groups(groups), run.tasks, _primary_intervals(tasks))],
        "verdicts": _counted([each["published"][0]["verdict"] for each in tasks if each["published"]]),
    }


def write_report(
    folder: Path,
    *,
    published: str | None = None,
    groups: Path | None = None,
    html: Path | None = None,
    png: Path | None = None,
    csv: Path | None = None,
    lm_eval: Path | None = None,
) -> dict[str, Any]:
    """Write a run's report: a page, plots, a table and the layouts of JSON.

    Args:
        folder: The run's.
        published, groups: As in `build_report`.
        html, csv, lm_eval: The files to write; None for report.html, results.csv and lm-eval.json in the run's folder.
        png: The folder for groups.png and tasks.png; None for the run's.

    Returns:
        What `build_report` gives, and "files": what was written. That without "files" is report.json, beside the
        results.

    Raises:
        MissingExtraError: PyYAML or Matplotlib is not installed.
        GemcutError: as `build_report`, and where a file cannot be written.
    """
    from gemcut.evaluate.lm_eval_layout import lm_eval_results
    from gemcut.evaluate.plots import figure_bytes, group_bars, task_forest
    from gemcut.evaluate.report_html import render_html

    run = read_run(folder)
    report = build_report(run, published, groups)
    png = png or folder
    png.mkdir(parents=True, exist_ok=True)
    files = {
        "json": folder / "report.json",
        "html": html or folder / "report.html",
        "csv": csv or folder / "results.csv",
        "lm_eval": lm_eval or folder / "lm-eval.json",
        "groups_png": png / "groups.png",
        "tasks_png": png / "tasks.png",
    }
    atomic_write_bytes(files["json"], json_bytes(report))
    atomic_write_text(files["html"], render_html(report))
    atomic_write_text(files["csv"], csv_text(report))
    atomic_write_bytes(files["lm_eval"], json_bytes(lm_eval_results(run)))
    atomic_write_bytes(files["groups_png"], figure_bytes(group_bars(report), "png"))
    atomic_write_bytes(files["tasks_png"], figure_bytes(task_forest(report), "png"))
    return {**report, "files": {name: str(path) for name, path in files.items()}}


def csv_text(report: Mapping[str, Any]) -> str:
    """A line for each metric of each task; shares in points."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for task in report["tasks"]:
        for metric in task["metrics"]:
            found = verdict_of(task, metric)
            line = {"task": task["name"]} | {key: metric.get(key) for key in CSV_COLUMNS if key in metric}
            line |= {key: task[key] for key in ("num_total", "num_shots")}
            if found:
                line |= {"published": found["score"], "published_source": found["source"]}
                line |= {key: found[key] for key in ("setting", "difference", "tolerance", "verdict", "why")}
            writer.writerow(line)
    return out.getvalue()


def _task(run: RunFolder, name: str, column: published_scores.Column | None, is_quantised: bool) -> dict[str, Any]:
    task, items = run.tasks[name], run.items(name)
    benchmarks = published_scores.benchmarks_of(name)
    found: list[published_scores.Verdict] = []
    if column is not None:
        scores = [score for each in benchmarks for score in published_scores.scores_of(column.key, each)]
        found = published_scores.verdicts(task, scores, is_quantised=is_quantised, is_tuned=column.is_tuned)
    first = found[0].metric if found else task["primary_metric"]
    compared = {each.metric for each in found}
    return {
        "name": name,
        **{key: task.get(key) for key in _TASK_KEYS},
        "title": task.get("title") or name,
        "metrics": [
            {**_metric(metric, task, items), "is_compared": metric in compared} for metric in _ordered(task, first)
        ],
        "subsets": _subsets(task),
        "published": [_verdict(each) for each in found],
        "baselines": _baselines(benchmarks, first),
    }


def _baselines(benchmarks: Sequence[str], metric: str) -> dict[str, float]:
    """What was published of other models for a metric, by column; the first table that has it."""
    found: dict[str, float] = {}
    for key in published_scores.BASELINES:
        for score in [each for benchmark in benchmarks for each in published_scores.scores_of(key, benchmark)]:
            if score.metric in (None, metric) and not score.caveat:
                found.setdefault(key, score.score)
    return found


def _ordered(task: Mapping[str, Any], first: str) -> list[str]:
    """The metrics, the compared one in front."""
    return sorted(task["metrics"], key=lambda metric: metric != first)


def _metric(name: str, task: Mapping[str, Any], items: Sequence[ItemRecord]) -> dict[str, Any]:
    figure = task["metrics"][name]
    scale = 100.0 if figure["is_percent"] else 1.0
    values = [value for item in items if (value := item_score(item, name)) is not None]
    interval = figure_interval(figure, values)
    stderr = figure["stderr"]
    return {
        "metric": name,
        "value": scale * figure["value"],
        "stderr": None if stderr is None else scale * stderr,
        "low": None if interval is None else scale * interval.low,
        "high": None if interval is None else scale * interval.high,
        "interval": None if interval is None else interval.method,
        "num_items": figure["num_items"],
        "unit": "%" if figure["is_percent"] else "",
        "higher_is_better": figure["higher_is_better"],
    }


def figure_interval(figure: Mapping[str, Any], values: Sequence[float]) -> Interval | None:
    """The 95 % interval of a figure: from its items where it is their mean, else from its standard error."""
    if len(values) == figure["num_items"] and values and math.isclose(mean(values), figure["value"], abs_tol=1e-9):
        return mean_interval(values)
    return (
        normal_interval(figure["value"], figure["stderr"]) if figure["stderr"] else None
    )  # an error of 0 tells nothing


def _primary_intervals(tasks: Sequence[Mapping[str, Any]]) -> dict[str, Interval | None]:
    """By task, the interval of its primary metric, in points."""
    found: dict[str, Interval | None] = {}
    for task in tasks:
        metric = next(each for each in task["metrics"] if each["metric"] == task["primary_metric"])
        known = metric["interval"] is not None
        found[task["name"]] = Interval(metric["low"], metric["high"], metric["interval"]) if known else None
    return found


def _subsets(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of a task by its primary metric, in points."""
    rows = []
    for subset, figures in (task.get("subsets") or {}).items():
        figure = figures.get(task["primary_metric"]) or next(iter(figures.values()), None)
        if figure:
            scale = 100.0 if figure["is_percent"] else 1.0
            stderr = None if figure["stderr"] is None else scale * figure["stderr"]
            rows.append({"subset": subset, "value": scale * figure["value"], "stderr": stderr,
                         "num_items": figure["num_items"]})  # fmt: skip
    return rows


def _verdict(found: published_scores.Verdict) -> dict[str, Any]:
    score = found.published
    return {
        "score": score.score,
        "column": score.column,
        "source": score.source,
        "url": score.url,
        "printed_setting": score.setting,
        "mark": score.mark,
        "notes": list(score.notes),
        "source_notes": list(score.source_notes),
        "metric": found.metric,
        "is_metric_published": score.metric is not None,
        "difference": found.difference,
        "tolerance": found.tolerance,
        "setting": found.setting,
        "verdict": found.word,
        "why": found.why,
    }


def _group(figure: GroupFigure) -> dict[str, Any]:
    interval = figure.interval
    return {
        "name": figure.group.name,
        "members": list(figure.group.members),
        "measured": dict(figure.measured),
        "missing": list(figure.missing),
        "is_complete": figure.is_complete,
        "members_in_words": figure.members_in_words(),
        "value": figure.value,
        "stderr": figure.stderr,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "published": dict(figure.published),
    }


def _counted(words: Sequence[str]) -> dict[str, int]:
    order = ("reproduced", "above", "below", "not comparable")
    return {word: words.count(word) for word in order if word in words}
