"""`gemcut tune`: fine-tune a model on data."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemcut.cli import options
from gemcut.cli.output import print_json, print_notice
from gemcut.cli.tune_data import show_data
from gemcut.cli.tune_progress import stop_on_signals, watching
from gemcut.cli.tune_recipe import held_out_of, mapping_of, recipe_of

if TYPE_CHECKING:
    from gemcut.tune.run import TuneResult

INTERRUPTED = 75

EXAMPLES = """\b
Examples:
  gemcut tune starter chats.jsonl --dry-run
  gemcut tune starter chats.jsonl --held-out 0.05 --output ./my-run
  gemcut run starter --chat "Hello" --adapter ./my-run/adapter
  gemcut convert starter tuned.gguf --to gguf --adapter ./my-run/adapter
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
MethodOption = Annotated[
    str | None,
    typer.Option(metavar="lora|qlora|full", help="Train an adapter, one beside 4-bit weights, or all weights [lora]."),
]
RankOption = Annotated[int | None, typer.Option(metavar="R", help="The adapter's rank [16].")]
AlphaOption = Annotated[float | None, typer.Option(metavar="X", help="The adapter's scale is alpha / rank [32].")]
BatchOption = Annotated[int | None, typer.Option(metavar="B", help="Rows of a micro-batch [4].")]
AccumulationOption = Annotated[int | None, typer.Option(metavar="N", help="Micro-batches of a step [1].")]
EpochsOption = Annotated[float | None, typer.Option(metavar="X", help="Passes over the data [1].")]
StepsOption = Annotated[int | None, typer.Option(metavar="N", help="Steps, in place of epochs.")]
RateOption = Annotated[float | None, typer.Option(metavar="X", help="The highest learning rate [0.0002].")]
ScheduleOption = Annotated[
    str | None, typer.Option(metavar="constant|linear|cosine", help="What the rate does after the warm-up [cosine].")
]
WarmupOption = Annotated[
    float | None, typer.Option(metavar="X", help="Steps of the warm-up, or below 1 their share of all [0.03].")
]
OptimizerOption = Annotated[str | None, typer.Option(metavar="adamw|adafactor|lion", help="The optimiser [adamw].")]
TuneEngineOption = Annotated[
    str | None, typer.Option(metavar="auto|jax|torch|tensorflow", help="What computes [the first installed].")
]
TuneDtypeOption = Annotated[
    str | None, typer.Option(metavar="auto|float32|bfloat16", help="Number format to compute in.")
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        metavar="data|fsdp|tensor",
        help="What several devices split: rows, weights too, or each product [data]; docs/tuning-devices.md.",
    ),
]
DevicesOption = Annotated[
    int | None, typer.Option(metavar="N", help="Devices of the run [all accelerators, or one processor].")
]
TensorDevicesOption = Annotated[
    int | None, typer.Option(metavar="N", help="Of --layout tensor: devices that share each product [all].")
]
CoordinatorOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Of several processes: where the first is [what a launcher says]."),
]
NumProcessesOption = Annotated[int | None, typer.Option(metavar="N", help="Of several processes: how many.")]
ProcessIdOption = Annotated[int | None, typer.Option(metavar="I", help="Of several processes: which this is, from 0.")]
EvaluateOption = Annotated[
    int | None, typer.Option(metavar="N", help="Steps between evaluations of what is held out [an epoch].")
]
PatienceOption = Annotated[
    int | None, typer.Option(metavar="N", help="Stop after so many evaluations without a better loss.")
]
TasksOption = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="Tasks of `gemcut eval`, with commas, to ask at each evaluation too."),
]
TaskLimitOption = Annotated[int | None, typer.Option(metavar="N", help="The first N items of each task [100].")]
TaskDataOption = Annotated[
    list[Path] | None, typer.Option(metavar="DIR", help="Folder of the tasks' data, before the cache; may come again.")
]
CheckpointOption = Annotated[int | None, typer.Option(metavar="N", help="Steps between checkpoints [an epoch].")]
SeedOption = Annotated[int | None, typer.Option(metavar="N", help="Of beginning, order and held-out split [0].")]
OutputOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The run's folder [default: one in ./gemcut-tune].")
]
TrackOption = Annotated[
    list[str] | None, typer.Option(metavar="wandb|mlflow", help="Tell this tracker, too; may come again.")
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Begin anew, whatever the folder holds of a run.")]
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
    schedule: ScheduleOption = None,
    warmup: WarmupOption = None,
    optimizer: OptimizerOption = None,
    seed: SeedOption = None,
    evaluate_every: EvaluateOption = None,
    patience: PatienceOption = None,
    tasks: TasksOption = None,
    task_limit: TaskLimitOption = None,
    task_data: TaskDataOption = None,
    checkpoint_every: CheckpointOption = None,
    engine: TuneEngineOption = None,
    dtype: TuneDtypeOption = None,
    threads: options.ThreadsOption = None,
    layout: LayoutOption = None,
    devices: DevicesOption = None,
    tensor_devices: TensorDevicesOption = None,
    coordinator: CoordinatorOption = None,
    num_processes: NumProcessesOption = None,
    process_id: ProcessIdOption = None,
    output: OutputOption = None,
    track: TrackOption = None,
    fresh: FreshOption = False,
    dry_run: DryRunOption = False,
    page: PageOption = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Fine-tune a model: a report on the data, then the steps, then an adapter or a model.

    A run that was stopped or killed goes on from its last checkpoint, bit for bit: give the same command again. The
    run's folder holds the complete recipe, the log, checkpoints, a report and what came out.
    """
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
        "schedule": schedule,
        "warmup": warmup,
        "optimizer.name": optimizer,
        "seed": seed,
        "evaluation.every": evaluate_every,
        "evaluation.patience": patience,
        "evaluation.tasks": None if tasks is None else [name.strip() for name in tasks.split(",")],
        "evaluation.task_limit": task_limit,
        "checkpoints.every": checkpoint_every,
        "engine": engine,
        "dtype": dtype,
        "devices.layout": layout,
        "devices.count": devices,
        "devices.tensor": tensor_devices,
    }
    recipe = recipe_of(first, data or (), changes | held_out_of(held_out))
    if dry_run:
        show_data(recipe, page=page, as_json=json, quiet=quiet)
        return
    from gemcut.cli.tune_tasks import check_tasks, scores_of_tasks
    from gemcut.tune.cluster import ClusterFlags
    from gemcut.tune.run import tune as run

    if recipe.evaluation.tasks:
        check_tasks(recipe.evaluation.tasks)
    with stop_on_signals() as is_asked_to_stop, watching(is_asked_to_stop, quiet or json) as watcher:
        result = run(
            recipe,
            output,
            threads=threads,
            fresh=fresh,
            command=shlex.join(["gemcut", *sys.argv[1:]]),
            watcher=dataclasses.replace(watcher, task_scores=scores_of_tasks(task_data or ()), track=track or ()),
            cluster=ClusterFlags(coordinator, num_processes, process_id),
        )
    if result.is_main:
        _print(result, as_json=json, quiet=quiet)
    if result.ended == "interrupted":
        raise typer.Exit(INTERRUPTED)


def _print(result: TuneResult, *, as_json: bool, quiet: bool) -> None:
    """How the run ended."""
    if as_json:
        print_json(result.as_json())
        return
    done = f"{result.step:,} of {result.num_steps:,} steps"
    if result.ended == "interrupted":
        print_notice(
            f"Interrupted after {done}. All is saved in {result.folder}; give the same command again to go on."
        )
        return
    held_out = f", held-out loss {result.held_out_loss:.4f}" if result.held_out_loss is not None else ""
    best = " (the best)" if result.exported_step == result.best_step else ""
    print_notice(f"{result.ended.capitalize()} after {done}{held_out}; report: {result.folder}/report.html", quiet)
    print_notice(f"{result.artefact}: the state after step {result.exported_step:,}{best}", quiet)
