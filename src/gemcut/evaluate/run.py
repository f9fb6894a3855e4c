"""A run: tasks asked of one model, and the folder that says what came out."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gemcut.errors import GemcutError, UsageError
from gemcut.evaluate.asker import Asker
from gemcut.evaluate.code_answers import CodeScorer
from gemcut.evaluate.data import DataFolders
from gemcut.evaluate.encoding import Encoder
from gemcut.evaluate.examples import Sampling
from gemcut.evaluate.identity import ModelIdentity, identity_of
from gemcut.evaluate.item_store import ItemRecord, ItemStore, read_records
from gemcut.evaluate.run_facts import machine_facts, model_facts
from gemcut.evaluate.run_folder import FORMAT, RESULTS, read_run
from gemcut.evaluate.suites import Asked
from gemcut.evaluate.task import Task
from gemcut.evaluate.task_file import load_task
from gemcut.evaluate.task_questions import TaskSettings
from gemcut.evaluate.task_run import Progress, TaskRun
from gemcut.files import atomic_write_bytes, json_bytes
from gemcut.generate.text_model import TextModel
from gemcut.machine import engine_versions

RUNS_FOLDER = Path("gemcut-eval")


@dataclasses.dataclass(frozen=True)
class Results:
    """What a run gave.

    Attributes:
        folder: Where everything was written.
        facts: What its results.json says; docs/evaluation.md lists the keys.
        tasks: Names of the tasks of this call; `facts` may have those of earlier ones, too.
    """

    folder: Path
    facts: Mapping[str, Any]
    tasks: tuple[str, ...]

    def figure(self, task: str, metric: str | None = None) -> float:
        """The value of a metric of a task, a share as a fraction; its first metric unless named."""
        facts = self.facts["tasks"][task]
        return float(facts["metrics"][metric or facts["primary_metric"]]["value"])


def evaluate(
    model: TextModel,
    tasks: Sequence[str | Task | Asked],
    *,
    output: Path | str,
    data: Sequence[Path | str] = (),
    shots: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    shot_sampling: Sampling = "fixed",
    chat: bool = False,
    system: str | None = None,
    log_samples: bool = False,
    allow_code_execution: bool = False,
    fresh: bool = False,
    known_runs: Sequence[Path] = (),
    suite: str | None = None,
    command: str = "",
    progress: Callable[[Progress], None] | None = None,
) -> Results:
    """Ask a model tasks and write down what came out, item by item.

    A run that was killed goes on where it was when it is called again with the same folder, model and settings.

    Args:
        model: The model.
        tasks: Names, paths of task files, tasks, or any of these with settings of their own.
        output: The run's folder; made if it is not there.
        data: Folders of data sets; Gemcut's cache comes after them.
        shots, limit: For all tasks; None for each task's own.
        seed: Of the draw of fixed examples.
        shot_sampling: "fixed" for the same examples before every question; "lm-eval" for examples of each item's own,
            as lm-evaluation-harness draws them.
        chat, system: See `encoding.Encoder`.
        log_samples: Write the prompts of every item, too.
        allow_code_execution: Whether tasks may run the programs that the model writes.
        fresh: Ask everything anew, whatever is known.
        known_runs: Folders of other runs; what this very model answered there to the very same question is taken over.
        suite, command: For the record.
        progress: Called while it runs.

    Raises:
        UsageError: the settings make no sense, or the folder is another run's.
        NotFoundError, DataError: a task or its data is missing or damaged.
        GemcutError: the engine failed, or the disk is full.
    """
    asked = [each if isinstance(each, Asked) else Asked(each) for each in tasks]
    loaded = [load_task(each.task) if isinstance(each.task, str) else each.task for each in asked]
    _check(loaded, shots, limit, allow_code_execution)
    loaded = [_allowed(task) if task.executes_code else task for task in loaded]
    folder, shared = Path(output), TaskSettings(0, None, seed, shot_sampling, chat, system)
    with _held(folder):
        identity = identity_of(model)
        facts = _begun(folder, model, identity, suite, command)
        encoder, asker = Encoder(model, chat=chat, system=system), Asker(model)
        folders = DataFolders([Path(each) for each in data])
        for number, (task, each) in enumerate(zip(loaded, asked, strict=True), 1):
            num_shots = next(n for n in (shots, each.shots, task.num_shots) if n is not None)
            settings = dataclasses.replace(
                shared, num_shots=num_shots, limit=limit if limit is not None else each.limit
            )
            report = _reporter(progress, task.name, number, len(loaded))
            run = TaskRun(task, settings, folders, encoder, asker, report)
            header = _header(identity, run)
            path = folder / "items" / f"{task.name}.jsonl"
            store = ItemStore(path, header, fresh=fresh)
            try:
                known = [] if fresh else [_records_of(each / "items" / path.name, header) for each in known_runs]
                results = run.run(store, known, log_samples)
            finally:
                store.close()
            facts["tasks"][task.name] = _with_earlier(run.facts(results), facts["tasks"].get(task.name))
            facts["date"] = _now()
            atomic_write_bytes(folder / RESULTS, json_bytes(facts))
    return Results(folder, facts, tuple(task.name for task in loaded))


def run_folder(model: TextModel, settings: Mapping[str, Any], suite: str | None = None) -> Path:
    """Where the results of a command go unless told: a folder in `RUNS_FOLDER`.

    Its name follows from model and settings, so that the same command finds what it did before, and no other does.
    """
    key = {"format": FORMAT, "model": identity_of(model).as_dict(), "context": model.context, **settings}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model.name).name.removesuffix(".gguf")).strip("-.") or "model"
    return RUNS_FOLDER / "-".join([name, *([suite] if suite else []), digest])


def known_folders(folder: Path) -> list[Path]:
    """The other runs beside a run's folder."""
    return [each for each in sorted(folder.parent.glob("*")) if (each / "items").is_dir() and each.name != folder.name]


def _check(tasks: Sequence[Task], shots: int | None, limit: int | None, allow_code_execution: bool) -> None:
    if not tasks:
        raise UsageError(
            "tasks: there are none, expected at least one. Name some with --tasks, or a suite with --suite."
        )
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"tasks: {twice} is there twice, expected each once. Rename the file of one of them.")
    if (shots or 0) < 0 or (limit if limit is not None else 1) < 1:
        raise UsageError(f"shots is {shots} and limit is {limit}, expected 0 and 1 at least.")
    programs = [task.name for task in tasks if task.executes_code]
    if programs and not allow_code_execution:
        raise UsageError(
            f"{', '.join(programs)}: scoring runs programs that the model writes. Read docs/evaluation.md on the "
            "sandbox, then add --allow-code-execution."
        )


def _allowed(task: Task) -> Task:
    """A task that may run programs."""
    return dataclasses.replace(task, scorer=task.scorer.allowed()) if isinstance(task.scorer, CodeScorer) else task


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Make a run's folder and keep other processes from writing into it."""
    import fcntl

    try:
        (folder / "items").mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as problem:
        raise GemcutError(f"{folder}: cannot be made ({problem.strerror}). Choose another --output.") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UsageError(f"{folder}: another process writes there. Wait for it, or choose another --output.") from None
    finally:
        os.close(handle)


def _begun(folder: Path, model: TextModel, identity: ModelIdentity, suite: str | None, command: str) -> dict[str, Any]:
    """The facts of a run; tasks that the folder has already stay, if they are of this model."""
    facts: dict[str, Any] = {
        "format": FORMAT,
        "date": _now(),
        "command": command,
        "suite": suite,
        "model": model_facts(model, identity),
        "machine": machine_facts(),
        "versions": engine_versions(model.engine),
        "tasks": {},
    }
    facts["gemcut"] = facts["versions"]["gemcut"]
    if (folder / RESULTS).is_file():
        earlier = read_run(folder).facts
        for name, value in identity.as_dict().items():
            if earlier["model"].get(name) != value:
                found = earlier["model"].get(name)
                raise UsageError(
                    f"{folder}: holds results of another model: {name} was {found}, now it is {value}. Choose another "
                    "--output."
                )
        facts["tasks"] = dict(earlier["tasks"])
    return facts


def _with_earlier(facts: dict[str, Any], earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    """A task's facts; where nothing was left to compute, with the time of the command that computed it."""
    if earlier is None or facts["num_computed"] or earlier["num_items"] != facts["num_items"]:
        return facts
    return facts | {key: earlier[key] for key in ("seconds", "num_computed", "notes") if key in earlier}


def _header(identity: ModelIdentity, run: TaskRun) -> dict[str, Any]:
    """What two runs must have in common for one to go on with the other's answers."""
    return {
        "task": run.task.name,
        "gemcut": importlib.metadata.version("gemcut"),
        "model": identity.as_dict(),
        "settings": dataclasses.asdict(run.settings),
    }


def _records_of(path: Path, header: Mapping[str, Any]) -> Mapping[str, ItemRecord]:
    """Records of another run's file, if they are this very model's."""
    try:
        found, records = read_records(path)
    except GemcutError:
        return {}  # nothing is lost but time
    same = all(found.get(key) == header[key] for key in ("task", "gemcut", "model"))
    return {record.item_id: record for record in records} if same else {}


def _reporter(
    progress: Callable[[Progress], None] | None, task: str, number: int, num_tasks: int
) -> Callable[[str, int, int, int, int], None]:
    def report(stage: str, *counts: int) -> None:
        if progress is not None:
            progress(Progress(task, stage, number, num_tasks, *counts))

    return report


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


__all__ = ["Results", "evaluate", "known_folders", "run_folder"]
