"""The report in a terminal: tasks, then groups, then what it was compared with."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from gemcut.evaluate.published import points_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

STYLES = {"reproduced": "green", "above": "cyan", "below": "red", "not comparable": "yellow"}


def report_text(report: Mapping[str, Any], width: int = 80) -> str:
    """The tables of a report as plain text, with lines of at most `width` characters."""
    from rich.console import Console

    out = io.StringIO()
    _print(report, Console(file=out, width=width, highlight=False, force_terminal=False, force_jupyter=False))
    return out.getvalue()


def print_report(report: Mapping[str, Any]) -> None:
    """Print the tables of a report on standard output, in colours on a terminal."""
    from rich.console import Console

    _print(report, Console(highlight=False))


def _print(report: Mapping[str, Any], console: Console) -> None:
    console.print(task_table(report))
    for line in _reasons(report):
        console.print(line, style="dim", markup=False)
    if any(group["measured"] for group in report["groups"]):
        console.print()
        console.print(group_table(report))
    console.print()
    for line in closing_lines(report):
        console.print(line, markup=False)


def task_table(report: Mapping[str, Any]) -> Table:
    """A line for each metric of each task."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=f"Measured here: {report['model']['name']}",
        title_justify="left",
        box=None,
        pad_edge=False,
        collapse_padding=True,
    )
    compared = any(task["published"] for task in report["tasks"])
    narrowest = {"task": 12, "metric": 11, "verdict": 14}  # the others keep their width
    for name in ("task", "metric", "value ± error", "95 %", *(("published", "verdict") if compared else ())):
        justify: Literal["left", "right"] = "left" if name in narrowest else "right"
        table.add_column(
            name, justify=justify, no_wrap=name not in narrowest, overflow="fold", min_width=narrowest.get(name)
        )
    for task in report["tasks"]:
        for index, metric in enumerate(task["metrics"]):
            title = f"{task['title']}, {task['num_shots']}-shot" if index == 0 else ""
            cells: list[str | Text] = [Text(title), Text(metric["metric"]), with_error(metric), interval_text(metric)]
            if compared:
                found = verdict_of(task, metric)
                published = f"{points_text(found['score'])}{found['mark']}" if found else ""
                cells += [published, Text(_verdict(found), style=STYLES[found["verdict"]] if found else "")]
            table.add_row(*cells)
    return table


def group_table(report: Mapping[str, Any]) -> Table:
    """A line for each group, its members printed."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title="Groups: means of their members", title_justify="left", box=None, pad_edge=False, collapse_padding=True
    )
    for name in ("group", "value ± error", "95 %", "members"):
        is_number = name in ("value ± error", "95 %")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number)
    for group in report["groups"]:
        mean = {**group, "unit": "%"}
        shown = ("", "") if group["value"] is None else (with_error(mean), interval_text(mean))
        table.add_row(Text(group["name"]), *shown, Text(group["members_in_words"]))
    return table


def verdict_of(task: Mapping[str, Any], metric: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a task's report says of a metric and its published score; None where there is none."""
    return next((each for each in task["published"] if each["metric"] == metric["metric"]), None)


def with_error(metric: Mapping[str, Any]) -> str:
    """A value and its standard error."""
    digits = 2 if metric["unit"] == "%" else 4
    error = "" if metric["stderr"] is None else f" ± {metric['stderr']:.{digits}f}"
    return f"{metric['value']:.{digits}f}{error}"


def interval_text(metric: Mapping[str, Any]) -> str:
    """The interval, or nothing where there is none."""
    if metric["low"] is None:
        return ""
    digits = 1 if metric["unit"] == "%" else 4
    return f"{metric['low']:.{digits}f} to {metric['high']:.{digits}f}"


def closing_lines(report: Mapping[str, Any]) -> list[str]:
    """What the figures were compared with, by which rules."""
    column = report["published_column"]
    compared = any(task["published"] for task in report["tasks"])
    methods = {metric["interval"] for task in report["tasks"] for metric in task["metrics"]} - {None}
    if column["title"] is None:
        lines = [f"Published: nothing to compare with ({column['why']})."]
    elif not compared:
        lines = [f"Published: no scores of {column['title']} for these tasks ({column['why']})."]
    else:
        points = " + 1.0 point for quantised weights" if report["is_quantised"] else ""
        lines = [
            f"Published: {column['title']} ({column['why']}).",
            f"Reproduced: within 2 standard errors{points}. Published figures were not measured here.",
        ]
    if methods:
        lines.append(f"Intervals of 95 %: {', '.join(sorted(methods))}; those of groups are combined from them.")
    return lines


def _verdict(found: Mapping[str, Any] | None) -> str:
    return "" if found is None else f"{found['verdict']} {found['difference']:+.1f}"


def _reasons(report: Mapping[str, Any]) -> Iterator[str]:
    """Why a setting is not the published one, a line each."""
    for task in report["tasks"]:
        found = task["published"][0] if task["published"] else None
        if found and found["why"]:
            yield f"{task['title']}: {found['why']}."
        if found and found["verdict"] in ("above", "below"):
            by, tolerance = abs(found["difference"]), found["tolerance"]
            yield f"{task['title']}: {by:.1f} {found['verdict']}, tolerance {tolerance:.1f}."
