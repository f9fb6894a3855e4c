"""`gemcut eval tasks`: what can be asked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from gemcut.cli import options
from gemcut.cli.output import in_columns, print_json, print_notice, write_answer

DataOption = Annotated[
    list[Path] | None, typer.Option(metavar="DIR", help="Folder of data sets, before the cache; may be given again.")
]
EXAMPLES = """\b
Examples:
  gemcut eval tasks
  gemcut eval tasks --data ./datasets --json"""
_HEADER = ["TASK", "TITLE", "KIND", "SHOTS", "ROWS", "DATA", "LICENCE OF THE DATA"]


def tasks(*, data: DataOption = None, json: options.JsonOption = False) -> None:
    """List the tasks and suites that Gemcut brings, and whether their data is on this machine.

    A task of your own is a YAML file and a data file: docs/evaluation-tasks.md.
    """
    from gemcut.evaluate.suites import load_suite, suite_names
    from gemcut.evaluate.task_list import list_tasks

    listed, suites = list_tasks(data or ()), [load_suite(name) for name in suite_names()]
    if json:
        print_json(
            {
                "tasks": [dataclasses.asdict(task) for task in listed],
                "suites": [
                    {"name": suite.name, "title": suite.title, "tasks": [str(asked.task) for asked in suite.tasks]}
                    for suite in suites
                ],
            }
        )
        return
    rows = [
        [task.name, task.title, task.kind, str(task.num_shots), f"{task.num_rows:,}", task.data, task.licence]
        for task in listed
    ]
    write_answer(in_columns([_HEADER, *rows]))
    write_answer("\n" + in_columns([["SUITE", "TITLE"], *([suite.name, suite.title] for suite in suites)]))
    if missing := [task.name for task in listed if task.data != "here"]:
        print_notice(
            f"Of {len(missing)} tasks the data is not all here. Name its folder with --data DIR, or get it: "
            "gemcut eval fetch"
        )
