"""`gemcut eval compare`: two runs on the same items."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemcut.cli import options
from gemcut.cli.output import print_json

if TYPE_CHECKING:
    from gemcut.evaluate.comparison import Comparison, TaskComparison

FirstArgument = Annotated[Path, typer.Argument(metavar="A", help="Folder of the run to compare with.")]
SecondArgument = Annotated[Path, typer.Argument(metavar="B", help="Folder of the run that may be better or worse.")]
TasksOption = Annotated[str | None, typer.Option(metavar="NAMES", help="Tasks, with commas between [default: all].")]
FlipsOption = Annotated[int, typer.Option(min=0, metavar="N", help="Items listed each way of each task.")]
AnySettingsOption = Annotated[
    bool, typer.Option("--any-settings", help="Compare though shots, limit or the like differ, on the common items.")
]
SeedOption = Annotated[int, typer.Option(metavar="N", help="Of the bootstrap.")]

EXAMPLES = """\b
Examples:
  gemcut eval compare ./base ./quantised
  gemcut eval compare ./base ./tuned --tasks hellaswag,boolq --flips 20
  gemcut eval compare ./zero-shot ./five-shot --any-settings --json"""


def compare(
    a: FirstArgument,
    b: SecondArgument,
    *,
    tasks: TasksOption = None,
    flips: FlipsOption = 5,
    any_settings: AnySettingsOption = False,
    seed: SeedOption = 0,
    json: options.JsonOption = False,
) -> None:
    """Compare two runs item by item: what changed, and whether chance explains it.

    For each task the difference with a 95 % interval (paired bootstrap), McNemar's exact p-value, corrected by Holm's
    method for the number of tasks, and the items that only one of the runs has right. Runs of other items, data or
    settings are refused.
    """
    from gemcut.evaluate.comparison import compare_runs
    from gemcut.evaluate.run_folder import read_run

    names = [name.strip() for name in tasks.split(",") if name.strip()] if tasks else []
    found = compare_runs(read_run(a), read_run(b), tasks=names, any_settings=any_settings, seed=seed)
    if json:
        print_json(found.as_dict())
    else:
        _print(found, flips)


def _print(found: Comparison, num_flips: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for side, facts in (("A", found.a), ("B", found.b)):
        console.print(f"{side}: {facts['model']}, {facts['folder']}", markup=False)
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for name in ("task", "metric", "A", "B", "B - A", "95 %", "lost", "won", "p", "verdict"):
        is_text = name in ("task", "metric", "verdict")
        table.add_column(name, justify="left" if is_text else "right", no_wrap=name != "task", overflow="fold")
    styles = {"B better": "green", "A better": "red", "differ": "cyan"}
    for row in found.tasks:
        title = row.title if row.is_primary else ""
        shown = "not shown" if row.verdict == "no difference shown" else row.verdict
        table.add_row(Text(title), Text(row.metric), *_numbers(row), Text(shown, style=styles.get(shown, "dim")))
    console.print(table)
    if found.mean_difference is not None and found.mean_interval is not None:
        low, high = found.mean_interval.low, found.mean_interval.high
        console.print(f"Mean over tasks: {found.mean_difference:+.2f} points, 95 % {low:+.2f} to {high:+.2f}.")
    if found.p_value is not None:
        console.print(f"All items together: lost {found.lost:,}, won {found.gained:,}, McNemar p {_p(found.p_value)}.")
    for row in found.tasks:
        if num_flips and row.is_primary and (row.lost or row.gained):
            for word, ids in (("lost", row.lost), ("won", row.gained)):
                more = f" and {len(ids) - num_flips:,} more" if len(ids) > num_flips else ""
                listed = ", ".join(ids[:num_flips]) or "none"
                console.print(f"{row.title}, {word} in B: {listed}{more}", style="dim", markup=False)
    for note in found.notes:
        console.print(f"Note: {note}.", style="yellow", markup=False)


def _numbers(row: TaskComparison) -> list[str]:
    digits = 2 if row.unit == "%" else 4
    tested = row.p_value is not None
    return [
        f"{row.a:.{digits}f}",
        f"{row.b:.{digits}f}",
        f"{row.difference:+.{digits}f}",
        f"{row.interval.low:+.{digits}f} to {row.interval.high:+.{digits}f}",
        f"{len(row.lost):,}" if tested else "",
        f"{len(row.gained):,}" if tested else "",
        _p(row.p_holm if row.p_holm is not None else row.p_value),
    ]


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"
