"""A tuning run from a recipe to an adapter or a model; the same call goes on with a run that was interrupted."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemcut.checkpoint import Checkpoint, open_checkpoint
from gemcut.checkpoint.load import choose_dtype, choose_engine, choose_keras_engine, start_engine
from gemcut.errors import GemcutError, UsageError
from gemcut.files import atomic_write_text
from gemcut.hub import resolve_whole
from gemcut.tune.cluster import ClusterFlags
from gemcut.tune.data_report import DataReport, build_report
from gemcut.tune.data_report_html import render_html
from gemcut.tune.export import ADAPTER, MODEL, export_adapter, export_model
from gemcut.tune.layout import Layout
from gemcut.tune.layout_choice import devices_in_words, layout_of
from gemcut.tune.memory import peak_memory_bytes
from gemcut.tune.processes import Bystander, Processes, SilentLog, connect
from gemcut.tune.recipe import Recipe
from gemcut.tune.run_checkpoint import FOLDER, CheckpointFolder
from gemcut.tune.run_facts import check_same_run, run_facts
from gemcut.tune.run_log import EVENTS, LOG, RunLog
from gemcut.tune.run_report import REPORT, RunReport, write_report
from gemcut.tune.trackers import Tracker, tracking
from gemcut.tune.trainer import INTERRUPTED, Progress, Trainer
from gemcut.tune.training_data import ModelText, TrainingData, prepare
from gemcut.tune.tuned_model import train_step_of

if TYPE_CHECKING:
    import numpy as np

    from gemcut.tune.train_step import TrainStep
    from gemcut.tune.training_data import Progress as DataProgress

RUNS, RECIPE, DATA_PAGE = Path("gemcut-tune"), "recipe.yaml", "data.html"
EVALUATED = ".evaluated"  # what tasks are asked of, in the run's folder; gone afterwards
TaskScores = Callable[[Recipe, Path], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class TuneResult:
    """How a run ended.

    Attributes:
        folder: The run's folder: recipe, log, checkpoints, report, and what came out.
        ended: "finished", "stopped early" or "interrupted"; an interrupted run goes on when it is called again.
        step, num_steps: Steps done, and of the whole run.
        held_out_loss, best_step: The lowest held-out loss and its step; None where nothing is held out.
        artefact: The adapter or the model; None where the run was interrupted.
        exported_step: The step that this is of.
        notices: What may make the result differ from that of a run that was never interrupted.
        is_main: Whether this is the process that wrote all that; the only one, mostly.
    """

    folder: Path
    ended: str
    step: int
    num_steps: int
    held_out_loss: float | None
    best_step: int | None
    artefact: Path | None
    exported_step: int | None
    notices: tuple[str, ...] = ()
    is_main: bool = True

    def as_json(self) -> dict[str, Any]:
        """The keys of `gemcut tune --json`."""
        paths = {"folder": str(self.folder), "artefact": None if self.artefact is None else str(self.artefact)}
        values = dataclasses.asdict(self) | paths | {"notices": list(self.notices)}
        return {key: value for key, value in values.items() if key != "is_main"}


@dataclasses.dataclass(frozen=True)
class Watcher:
    """Who looks on while a run goes.

    Attributes:
        data: Called with what is done to the data, how much of it is done, and of how much.
        report: Called with the report on the data before the first step.
        begins: Called with the run's folder, and the step that it goes on from.
        progress: Called after every step and before longer work.
        is_asked_to_stop: Whether to save and leave.
        task_scores: Asks the recipe's `evaluation.tasks` of an adapter's or a model's folder, for a score by name.
        track: Trackers that are told the run's figures: "wandb", "mlflow".
    """

    data: DataProgress | None = None
    report: Callable[[DataReport], None] = lambda _: None
    begins: Callable[[Path, int, tuple[str, ...]], None] = lambda *_: None
    progress: Callable[[Progress], None] = lambda _: None
    is_asked_to_stop: Callable[[], bool] = lambda: False
    task_scores: TaskScores | None = None
    track: Sequence[str] = ()

    def aside(self) -> Watcher:
        """The same for a process that is not the first one: nothing is shown, but it can be asked to stop."""
        return Watcher(is_asked_to_stop=self.is_asked_to_stop)


def tune(
    recipe: Recipe,
    output: str | os.PathLike[str] | None = None,
    *,
    threads: int | None = None,
    fresh: bool = False,
    command: str = "",
    watcher: Watcher | None = None,
    cluster: ClusterFlags | None = None,
) -> TuneResult:
    """Run a recipe, or go on with it.

    Args:
        recipe: All that decides what is learnt.
        output: The run's folder; None for one under ./gemcut-tune, named after the recipe.
        threads: CPU threads; None for the engine's default.
        fresh: Begin anew, whatever the folder holds of a run.
        command: The command line, for the report.
        watcher: Who looks on.
        cluster: Which of several processes this is; None for what the environment says.

    Raises:
        NotFoundError: the model or a file of data is not on this machine.
        DataError, TemplateError, CheckpointError, ConfigError, TokenizerError: model or data cannot be used.
        UsageError: the recipe makes no sense with this model, or the folder holds a run of another recipe.
        BackendError: the engine is missing, another one already runs in this process, or other processes are not met.
        DivergedError: the loss is no number any more; the state before that is kept.
        GemcutError: the disk is full; the last checkpoint is intact.
    """
    watcher = watcher or Watcher()
    if recipe.evaluation.tasks and watcher.task_scores is None:
        raise UsageError(
            "evaluation.tasks: nobody is there to ask them. Pass a Watcher with task_scores, or use `gemcut tune`."
        )
    with open_checkpoint(resolve_whole(recipe.model)) as checkpoint:
        data = prepare(recipe, ModelText.of(checkpoint, recipe.model), watcher.data)
        report = build_report(data)
        engine = _engine(recipe)
        start_engine(engine, threads)
        processes = connect(engine, cluster)
        watcher = watcher if processes.is_main else watcher.aside()
        watcher.report(report)
        layout = layout_of(recipe, engine, processes.cluster)
        dtype = choose_dtype(recipe.dtype, engine)
        recipe = dataclasses.replace(data.recipe, engine=engine, dtype=dtype)  # type: ignore[arg-type]
        facts = run_facts(checkpoint, recipe, engine, dtype, threads, devices_in_words(layout))
        folder = Path(output) if output is not None else RUNS / default_name(recipe)
        run = _Run(folder, recipe, data, checkpoint, facts, command, watcher, processes, layout)
        if not processes.is_main:
            with processes.together():
                processes.wait()  # until the folder is as it should be
                return run.take()
        with _locked(folder), processes.together():
            if fresh:
                _remove_run(folder)
            atomic_write_text(folder / DATA_PAGE, render_html(report))
            processes.wait()
            return run.take()


def default_name(recipe: Recipe) -> str:
    """The folder of a run: model, data, and the beginning of the recipe's digest."""
    names = [Path(recipe.model).name, *(Path(name).stem for name in recipe.data[:1])]
    return "-".join([*(re.sub(r"[^\w.]+", "-", name).strip("-") for name in names), recipe.digest()[:8]])


class _Run:
    """One session of a run."""

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        data: TrainingData,
        checkpoint: Checkpoint,
        facts: dict[str, Any],
        command: str,
        watcher: Watcher,
        processes: Processes,
        layout: Layout | None,
    ) -> None:
        self._folder, self._recipe, self._data, self._checkpoint = folder, recipe, data, checkpoint
        self._facts, self._command, self._watcher = facts, command, watcher
        self._processes, self._layout = processes, layout

    def take(self) -> TuneResult:
        """Take the steps that are left, and export what came out."""
        processes = self._processes
        checkpoints = (CheckpointFolder if processes.is_main else Bystander)(
            self._folder, self._recipe.checkpoints.keep_last
        )
        latest = checkpoints.latest()
        notices = tuple(check_same_run(latest.facts, self._facts, str(self._folder))) if latest else ()
        batches = self._data.batches()
        step = latest.state.step if latest else 0
        beginning = {"step": step, "recipe": self._recipe.digest(), "base model": self._facts["base"], **batches.cursor}
        processes.check_agreement(beginning)
        if processes.is_main:
            atomic_write_text(self._folder / RECIPE, self._recipe.to_yaml())
        engine = self._facts["engine"]
        train = train_step_of(self._checkpoint, self._recipe, len(batches), engine, layout=self._layout)
        self._watcher.begins(self._folder, step, notices)
        about = self._folder, self._recipe.to_dict(), self._recipe.digest()
        with (
            tracking(self._watcher.track, *about) as trackers,
            contextlib.closing(self._log(step, trackers)) as log,
        ):
            trainer = Trainer(
                train,
                batches,
                self._recipe,
                checkpoints,
                log,
                self._facts,
                held_out=None if self._data.held_out is None else self._data.held_out_batches,  # type: ignore[arg-type]
                task_scores=(lambda: self._asked(train)) if self._recipe.evaluation.tasks else None,
                progress=self._watcher.progress,
                is_asked_to_stop=lambda: processes.any(self._watcher.is_asked_to_stop()),
            )
            if latest is not None:
                trainer.restore(latest)
            del latest
            try:
                ended = trainer.run()
            except GemcutError as problem:
                with contextlib.suppress(GemcutError):  # the disk may be full
                    self._report(trainer, f"failed. {problem}".rstrip("."), None, notices)
                raise
            processes.wait()  # the last checkpoint is written
            exported = None if ended == INTERRUPTED else self._export(trainer, checkpoints)
            self._report(trainer, ended, exported, notices)
            processes.wait()
        memory = trainer.memory
        return TuneResult(
            self._folder,
            ended,
            train.step,
            len(batches),
            memory.best_loss if memory.best_step is not None else None,
            memory.best_step,
            None if exported is None else self._folder / self._artefact,
            exported,
            notices,
            processes.is_main,
        )

    def _log(self, step: int, trackers: Sequence[Tracker]) -> RunLog:
        return RunLog(self._folder, step, trackers) if self._processes.is_main else SilentLog()

    @property
    def _artefact(self) -> str:
        return MODEL if self._recipe.method == "full" else ADAPTER

    def _export(self, trainer: Trainer, checkpoints: CheckpointFolder) -> int:
        """Write the adapter or the model of the best step, else of the last; that step."""
        best, step = trainer.memory.best_step, trainer.train.step
        if best is not None and best != step and best in checkpoints.steps():
            trained, step = checkpoints.load(best).state.trained, best
        else:
            trained = trainer.train.state().trained
        self._write(self._folder / self._artefact, trained, step)
        return step

    def _asked(self, train: TrainStep) -> dict[str, float]:
        """The tasks' scores of the state at hand."""
        trained, folder = train.state().trained, self._folder / EVALUATED
        if not self._processes.is_main:
            return {}
        assert self._watcher.task_scores is not None, "tune checks it"
        try:
            self._write(folder, trained, train.step)
            return self._watcher.task_scores(self._recipe, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _write(self, folder: Path, trained: dict[str, np.ndarray], step: int) -> None:
        """Write an adapter or a model."""
        if not self._processes.is_main:
            return
        data = ", ".join(Path(name).name for name in self._recipe.data)
        about = f"{step} steps on {data}, learning rate {self._recipe.learning_rate:g}"
        if self._recipe.method != "full":
            from gemcut.tune.lora import Lora

            method = Lora(self._checkpoint.config, self._recipe.lora, self._facts["dtype"])
            template = None if self._data.template is None else self._data.template.source
            export_adapter(folder, method.updates(trained), self._checkpoint, self._recipe, about, template)
        else:
            export_model(folder, trained, self._checkpoint, about)

    def _report(self, trainer: Trainer, ended: str, exported: int | None, notices: tuple[str, ...]) -> None:
        if not self._processes.is_main:
            return
        memory = trainer.memory
        report = RunReport(
            recipe=self._recipe,
            ended=ended,
            num_steps=len(trainer.batches),
            best_step=memory.best_step,
            exported_step=exported,
            artefact=None if exported is None else self._artefact,
            tokens=memory.tokens,
            seconds=memory.seconds,
            memory_bytes=peak_memory_bytes(),
            facts=self._facts,
            command=self._command,
            notices=notices,
        )
        write_report(self._folder, report)


def _engine(recipe: Recipe) -> str:
    """The engine that a recipe means in this process."""
    engine = choose_engine(recipe.engine)
    return choose_keras_engine() if engine == "native" else engine


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make a run's folder and hold it, so that no second process works in it.

    Raises:
        UsageError: another process holds it.
        GemcutError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as problem:
        raise GemcutError(
            f"{folder}: cannot be made or opened ({problem.strerror}). Choose another --output."
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UsageError(f"{folder}: another process works on this run. Wait for it, or choose another one.") from None
    finally:
        os.close(handle)


def _remove_run(folder: Path) -> None:
    """Remove what a run leaves in its folder, and nothing else."""
    for name in (FOLDER, EVENTS, ADAPTER, MODEL):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (LOG, REPORT, "curves.svg", RECIPE, DATA_PAGE):
        (folder / name).unlink(missing_ok=True)


__all__ = ["TuneResult", "Watcher", "tune"]
