"""`gemcut tune --dry-run`, and the report on the data before every run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gemcut.cli.output import print_json, print_notice
from gemcut.cli.progress import progress_bar

if TYPE_CHECKING:
    from gemcut.tune.recipe import Recipe


def show_data(recipe: Recipe, *, page: Path | None = None, as_json: bool = False, quiet: bool = False) -> None:
    """Read a recipe's data and print the report on standard output; no weight is read.

    Args:
        recipe: The recipe.
        page: Write the report as an HTML page to this file too.
        as_json: Print JSON.
        quiet: Print nothing on standard error.
    """
    from gemcut.files import atomic_write_text
    from gemcut.tune.data_report import build_report
    from gemcut.tune.data_report_html import render_html
    from gemcut.tune.data_report_text import print_report
    from gemcut.tune.training_data import ModelText, prepare

    model = ModelText.load(recipe.model)
    with progress_bar(quiet) as progress:
        data = prepare(recipe, model, progress)
    report = build_report(data)
    if as_json:
        print_json(report.to_dict())
    else:
        print_report(report)
    if page is not None:
        atomic_write_text(page, render_html(report))
        print_notice(f"Written: {page}", quiet)
