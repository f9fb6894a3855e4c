"""`gemcut tune`: fine-tune a model on data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gemcut.cli import options
from gemcut.cli.tune_data import show_data
from gemcut.cli.tune_recipe import held_out_of, mapping_of, recipe_of
from gemcut.errors import UsageError

EXAMPLES = """\b
Examples:
  gemcut tune starter chats.jsonl --dry-run
  gemcut tune starter gsm8k.jsonl --map prompt=question --map completion=answer --dry-run
  gemcut tune recipe.yaml --dry-run --page report.html"""

FirstArgument = Annotated[str, typer.Argument(metavar="MODEL|RECIPE", help="The model, or a recipe (.yaml).")]
DataArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="DATA...", help="JSONL, JSON, CSV or parquet files, or folders that datasets saved."),
]
FormatOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="messages, sharegpt, alpaca, prompt-completion or text [default: detected]."),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FIELD=COLUMN", help="Where a field is: a column, or a text with {columns}."),
]
TemplateOption = Annotated[str | None, typer.Option(metavar="auto|chat|plain", help="Use the chat template or not.")]
LossOnOption = Annotated[
    str | None, typer.Option(metavar="completion|assistant", help="Learn the last answer, or every turn [completion].")
]
LengthOption = Annotated[int | None, typer.Option(metavar="N", help="Tokens of a row [1024, or the context].")]
OverlongOption = Annotated[
    str | None, typer.Option(metavar="error|truncate|drop", help="What becomes of longer samples [error].")
]
EmptyOption = Annotated[
    str | None, typer.Option(metavar="error|drop", help="What becomes of samples with nothing to learn [error].")
]
PackingOption = Annotated[bool | None, typer.Option("--packing/--no-packing", help="Several samples in a row or one.")]
LimitOption = Annotated[int | None, typer.Option(metavar="N", help="Only the first N records.")]
HeldOutOption = Annotated[
    str | None, typer.Option(metavar="SHARE|FILE", help="Hold out a share of the samples, or take a file's.")
]
MethodOption = Annotated[str | None, typer.Option(metavar="lora|full", help="Train an adapter or all weights [lora].")]
RankOption = Annotated[int | None, typer.Option(metavar="R", help="The adapter's rank [16].")]
AlphaOption = Annotated[float | None, typer.Option(metavar="X", help="The adapter's scale is alpha / rank [32].")]
BatchOption = Annotated[int | None, typer.Option(metavar="B", help="Rows of a micro-batch [4].")]
AccumulationOption = Annotated[int | None, typer.Option(metavar="N", help="Micro-batches of a step [1].")]
EpochsOption = Annotated[float | None, typer.Option(metavar="X", help="Passes over the data [1].")]
StepsOption = Annotated[int | None, typer.Option(metavar="N", help="Steps, in place of epochs.")]
RateOption = Annotated[float | None, typer.Option(metavar="X", help="The highest learning rate [0.0002].")]
SeedOption = Annotated[int | None, typer.Option(metavar="N", help="Of beginning, order and held-out split [0].")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the report on the data, and train nothing.")]
PageOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as an HTML page too.")]


def tune(
    first: FirstArgument,
    data: DataArgument = None,
    *,
    format: FormatOption = None,
    map_: MapOption = None,
    template: TemplateOption = None,
    system: options.SystemOption = None,
    loss_on: LossOnOption = None,
    sequence_length: LengthOption = None,
    overlong: OverlongOption = None,
    empty: EmptyOption = None,
    packing: PackingOption = None,
    limit: LimitOption = None,
    held_out: HeldOutOption = None,
    method: MethodOption = None,
    rank: RankOption = None,
    alpha: AlphaOption = None,
    batch: BatchOption = None,
    accumulation: AccumulationOption = None,
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    learning_rate: RateOption = None,
    seed: SeedOption = None,
    dry_run: DryRunOption = False,
    page: PageOption = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Fine-tune a model: samples from data, a report on them before the first step, then the steps."""
    changes = {
        "samples.format": format,
        "samples.map": mapping_of(map_ or ()),
        "samples.template": template,
        "samples.system": system,
        "samples.loss_on": loss_on,
        "samples.sequence_length": sequence_length,
        "samples.overlong": overlong,
        "samples.empty": empty,
        "samples.packing": packing,
        "samples.limit": limit,
        "method": method,
        "lora.rank": rank,
        "lora.alpha": alpha,
        "batch_size": batch,
        "accumulation": accumulation,
        "epochs": epochs,
        "steps": steps,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    recipe = recipe_of(first, data or (), changes | held_out_of(held_out))
    if not dry_run:
        raise UsageError("gemcut tune: this version of Gemcut shows data, but does not train yet. Add --dry-run.")
    show_data(recipe, page=page, as_json=json, quiet=quiet)
