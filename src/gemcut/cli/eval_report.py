"""`gemcut eval report`: a run's tables, page and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gemcut.cli import options
from gemcut.cli.output import print_json, print_notice

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `gemcut eval MODEL` wrote.")]
PublishedOption = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Compare with this published model, or none [default: by the model's name]."),
]
GroupsOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Groups of tasks, in YAML [default: Gemcut's own].")
]
HtmlOption = Annotated[Path | None, typer.Option(metavar="FILE", help="The page [default: report.html in RUN].")]
PngOption = Annotated[Path | None, typer.Option(metavar="DIR", help="Where the plots go [default: RUN].")]
CsvOption = Annotated[Path | None, typer.Option(metavar="FILE", help="The table [default: results.csv in RUN].")]
LmEvalOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Results as lm-evaluation-harness has them [default: lm-eval.json in RUN]."),
]

EXAMPLES = """\b
Examples:
  gemcut eval report ./my-run
  gemcut eval report ./my-run --published gemma-2b --html report.html
  gemcut eval report ./my-run --groups my-groups.yaml --json"""


def report(
    run: RunArgument,
    *,
    published: PublishedOption = None,
    groups: GroupsOption = None,
    html: HtmlOption = None,
    png: PngOption = None,
    csv: CsvOption = None,
    lm_eval: LmEvalOption = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Report a run: figures with intervals, groups, verdicts against published scores; a page, plots, CSV and JSON."""
    from gemcut.evaluate.report import write_report
    from gemcut.evaluate.report_table import print_report

    found = write_report(run, published=published, groups=groups, html=html, png=png, csv=csv, lm_eval=lm_eval)
    if json:
        print_json(found)
    else:
        print_report(found)
    print_notice(f"Written: {', '.join(found['files'].values())}", quiet)
