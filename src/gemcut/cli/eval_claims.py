"""`gemcut eval claims`: what the published table says of the announcement's sentences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemcut.cli import options
from gemcut.cli.output import print_json

if TYPE_CHECKING:
    from gemcut.evaluate.claims import Claim, Claims

RunOption = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Put this run's figures beside the published ones, marked as measured."),
]

EXAMPLES = """\b
Examples:
  gemcut eval claims
  gemcut eval claims --run ./my-run
  gemcut eval claims --json"""

_STYLES = {"holds": "green", "holds in part": "yellow", "does not hold": "red"}


def claims(*, run: RunOption = None, json: options.JsonOption = False) -> None:
    """Derive the announcement's sentences anew from the published table, and say which hold.

    All figures are published ones with their sources, not measured here; with --run, a run's own stand beside them in a
    column of their own.
    """
    from gemcut.evaluate.claims import derive_claims
    from gemcut.evaluate.run_folder import read_run

    found = derive_claims(read_run(run) if run else None)
    if json:
        print_json(found.as_dict())
    else:
        _print(found)


def _print(found: Claims) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    console.print("Figures are PUBLISHED ones, not measured here: Gemma report, table 6.", style="bold")
    if found.measured_model:
        console.print(
            f"The column `measured` is of the run's model, {found.measured_model}. As a published model: "
            f"{found.measured_as}.",
            markup=False,
        )
    for claim in found.claims:
        console.print()
        console.print(Text.assemble((claim.verdict, _STYLES[claim.verdict]), ": ", claim.sentence))
        console.print(f"  {claim.because}.", markup=False)
        console.print(_table(claim, bool(found.measured_model)))
    console.print("\nGroups; the announcement prints no members:")
    from gemcut.evaluate.published import benchmark_title

    for group in found.groups:
        console.print(f"  {group.name}: {', '.join(map(benchmark_title, group.members))}", markup=False)
    console.print("\nThe published record:")
    for source, lines in found.record:
        console.print(f"  {source}", markup=False)
        for line in lines:
            console.print(f"  - {line}", markup=False)


def _table(claim: Claim, has_run: bool) -> object:
    from rich.table import Table
    from rich.text import Text

    from gemcut.evaluate.published import BASELINES, columns

    table = Table(box=None, pad_edge=False, collapse_padding=True)
    table.add_column("  published")
    for key in BASELINES:
        table.add_column(columns()[key].title, justify="right")
    if has_run:
        table.add_column("measured", justify="right", style="cyan", no_wrap=True)
    for row in claim.evidence:
        cells = [f"{row.published[key]:.1f}" for key in BASELINES]
        if has_run:
            cells.append(_measured(row.measured))
        table.add_row(Text(f"  {row.what}"), *cells)
    return table


def _measured(found: object) -> str:
    if not isinstance(found, dict):
        return ""
    return f"{found['value']:.1f}" + ("" if found["stderr"] is None else f" ± {found['stderr']:.1f}")
