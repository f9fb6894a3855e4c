"""`gemcut eval`: benchmarks on a model."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemcut.cli import options
from gemcut.cli.eval_progress import eval_progress
from gemcut.cli.output import load_model, print_json, print_notice
from gemcut.errors import UsageError

if TYPE_CHECKING:
    from gemcut.evaluate.run import Results
    from gemcut.evaluate.suites import Asked

INTERRUPTED = 75
EXAMPLES = """\b
Examples:
  gemcut eval starter --suite smoke --data ./datasets
  gemcut eval starter --tasks arc_easy,piqa --limit 200 --data ./datasets
  gemcut eval ./gemma-3-1b-it --tasks gsm8k --chat --output ./gsm8k-chat
  gemcut eval starter --tasks ./my-task.yaml --shots 3
  gemcut eval starter --file book.txt --context 2048

\b
More commands:
  gemcut eval tasks              list tasks and suites
  gemcut eval fetch              get data sets
  gemcut eval report RUN         write tables, a page and plots
  gemcut eval compare A B        compare two runs item by item
  gemcut eval claims             what the published table says
A model named like one of these needs a path: ./compare."""


class ShotSampling(enum.StrEnum):
    """Where each item's examples come from."""

    fixed = "fixed"
    lm_eval = "lm-eval"


TasksOption = Annotated[
    str | None, typer.Option(metavar="NAMES", help="Tasks, with commas between; a name, or the path of a task file.")
]
SuiteOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Tasks of a table: gemma1-report, gemma3-card, safety or smoke.")
]
ShotsOption = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Solved examples before each question [default: the task's].")
]
LimitOption = Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N items of each task.")]
SeedOption = Annotated[int, typer.Option(metavar="N", help="Of the draw of examples.")]
ShotSamplingOption = Annotated[
    ShotSampling, typer.Option(help="The same examples for all, or each item's own as lm-eval draws them.")
]
ChatOption = Annotated[bool, typer.Option("--chat", help="Ask through the model's chat template.")]
LogSamplesOption = Annotated[bool, typer.Option("--log-samples", help="Write the prompts of every item, too.")]
DataOption = Annotated[
    list[Path] | None, typer.Option(metavar="DIR", help="Folder of data sets, before the cache; may be given again.")
]
OutputOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The run's folder [default: one in ./gemcut-eval].")
]
TextOption = Annotated[Path | None, typer.Option(metavar="TEXT", help="Perplexity of this UTF-8 text.")]
CodeOption = Annotated[
    bool, typer.Option("--allow-code-execution", help="Run programs that the model writes, in a sandbox.")
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Ask everything anew, whatever is known.")]


def eval_model(
    model: options.ModelArgument,
    *,
    tasks: TasksOption = None,
    suite: SuiteOption = None,
    shots: ShotsOption = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    shot_sampling: ShotSamplingOption = ShotSampling.fixed,
    chat: ChatOption = False,
    system: options.SystemOption = None,
    data: DataOption = None,
    output: OutputOption = None,
    file: TextOption = None,
    log_samples: LogSamplesOption = False,
    allow_code_execution: CodeOption = False,
    fresh: FreshOption = False,
    engine: options.EngineOption = options.Engine.auto,
    dtype: options.DtypeOption = options.Dtype.auto,
    threads: options.ThreadsOption = None,
    context: options.ContextOption = None,
    adapter: options.AdapterOption = None,
    json: options.JsonOption = False,
    quiet: options.QuietOption = False,
) -> None:
    """Measure a model on benchmarks, offline, with errors beside the numbers.

    Every answer is written down as it comes. A run that was stopped or killed goes on where it was: give the same
    command again. What a model answered is known by the digests of its files, its engine and the very tokens asked,
    never by its name.
    """
    from gemcut.evaluate.run import evaluate, known_folders, run_folder

    asked = _asked(tasks, suite, file)
    lm = load_model(
        model, engine=engine.value, dtype=dtype.value, threads=threads, context=context, adapter=adapter, quiet=quiet
    )
    how: dict[str, Any] = {"shots": shots, "limit": limit, "seed": seed, "shot_sampling": shot_sampling.value}
    how |= {"chat": chat, "system": system}
    folder = output or run_folder(lm, how, suite)
    known = [] if output else known_folders(folder)
    with _interruptible(folder), eval_progress(quiet) as progress:
        results = evaluate(
            lm,
            asked,
            output=folder,
            data=data or (),
            **how,
            log_samples=log_samples,
            allow_code_execution=allow_code_execution,
            fresh=fresh,
            known_runs=known,
            suite=suite,
            command=shlex.join(["gemcut", *sys.argv[1:]]),
            progress=progress,
        )
    lm.close()
    _print(results, as_json=json, quiet=quiet)


def _asked(tasks: str | None, suite: str | None, file: Path | None) -> list[Asked]:
    """The tasks that a command names; wrong ones are told before a model is loaded."""
    from gemcut.evaluate.perplexity import perplexity_task
    from gemcut.evaluate.suites import Asked, load_suite
    from gemcut.evaluate.task_file import load_task

    asked = list(load_suite(suite).tasks) if suite else []
    asked += [Asked(name.strip()) for name in (tasks or "").split(",") if name.strip()]
    asked = [dataclasses.replace(each, task=load_task(str(each.task))) for each in asked]
    if file is not None:
        asked.append(Asked(perplexity_task(file)))
    if not asked:
        raise UsageError(
            "Nothing is asked. Name tasks with --tasks (`gemcut eval tasks` lists them), --suite or --file."
        )
    return asked


@contextlib.contextmanager
def _interruptible(folder: Path) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run with its state saved."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        print_notice(f"Interrupted. What was answered is in {folder}; run the same command again to go on.")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _print(results: Results, *, as_json: bool, quiet: bool) -> None:
    """Tables, or the facts, of the tasks of this command; the page and the plots are of the whole run."""
    from gemcut.evaluate.report import build_report, write_report
    from gemcut.evaluate.report_table import print_report
    from gemcut.evaluate.run_folder import RunFolder

    tasks = {name: results.facts["tasks"][name] for name in results.tasks}
    facts = {**results.facts, "tasks": tasks}
    written = write_report(results.folder)["files"]
    if as_json:
        print_json({**facts, "folder": str(results.folder)})
        return
    print_report(build_report(RunFolder(results.folder, facts)))
    for name, task in tasks.items():
        for note in task["notes"]:
            print_notice(f"{name}: {note}", quiet)
    print_notice(f"Everything is in {results.folder}; the page: {written['html']}", quiet)
