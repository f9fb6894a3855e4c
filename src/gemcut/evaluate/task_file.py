"""Task files: YAML, one task each. Those that Gemcut brings and a user's are read alike."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from gemcut.errors import DataError, MissingExtraError, NotFoundError
from gemcut.evaluate.metrics import CHOICE_METRICS, Extraction, TextScorer
from gemcut.evaluate.rows import PROCESS
from gemcut.evaluate.task import ShotSource, Task
from gemcut.evaluate.templates import Expression, Template
from gemcut.files import read_bytes

MAX_TASK_BYTES = 1 << 20
_KEYS = {
    "title": str, "kind": str, "data": dict, "prompt": str, "gold": str, "metrics": list, "licence": str, "notes": list,
    "process": str, "fields": list, "num_shots": int, "shots": dict, "description": str, "choices": str,
    "continuation": str, "target": str, "delimiter": str, "separator": str, "stop": list, "max_tokens": int,
    "answer": dict, "subset": str,
}  # fmt: skip
_NEEDED = ("title", "kind", "data", "prompt", "gold")
_TEMPLATES = {"prompt": Template, "description": Template, "continuation": Template, "target": Template,
              "choices": Expression, "gold": Expression}  # fmt: skip


@functools.cache
def task_names() -> tuple[str, ...]:
    """The tasks that Gemcut brings, in alphabetical order."""
    folder = resources.files("gemcut.evaluate") / "tasks"
    return tuple(sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")))


def load_task(name: str) -> Task:
    """A task by its name, or by the path of its file.

    Raises:
        NotFoundError: there is no such task.
        DataError: the file says something that no task has, or leaves out what each has.
    """
    if name in task_names():
        data = (resources.files("gemcut.evaluate") / "tasks" / f"{name}.yaml").read_bytes()
        return task_of(_parsed(data, f"{name}.yaml"), name, f"{name}.yaml")
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise NotFoundError(f"task {name!r}: expected one of {', '.join(task_names())}, or a path to a .yaml file.")
    task = _parsed(read_bytes(path, MAX_TASK_BYTES, DataError), str(path))
    return task_of(task, path.stem, str(path), folder=path.parent)


def task_of(given: Any, name: str, where: str, folder: Path | None = None) -> Task:
    """The task that a file describes.

    Args:
        given: What the file says.
        name: Of the task.
        where: The file, for errors.
        folder: Where a user's data lies: the set "." is this folder.
    """
    if not isinstance(given, Mapping):
        raise DataError(f"{where}: is {type(given).__name__}, expected keys and values: {', '.join(_NEEDED)}.")
    for key, value in given.items():
        if key not in _KEYS:
            raise DataError(f"{where}: {key!r} is no key of a task, expected some of {', '.join(_KEYS)}.")
        if not isinstance(value, _KEYS[key]) or isinstance(value, bool):
            raise DataError(f"{where}: {key} is {value!r}, expected {_KEYS[key].__name__}.")
    if missing := [key for key in _NEEDED if key not in given]:
        raise DataError(f"{where}: has no {missing[0]!r}, expected {', '.join(_NEEDED)}.")
    data = _table(given["data"], f"{where}, data", {"set": str, "file": str})
    shots = _table(given.get("shots", {}), f"{where}, shots", {"files": list, "order": str, "same": str})
    scorer = _scorer(given.get("answer"), f"{where}, answer")
    own = {key: given[key] for key in ("title", "kind", "licence", "num_shots", "delimiter", "separator", "max_tokens",
                                       "process", "subset") if key in given}  # fmt: skip
    lists = {key: tuple(given[key]) for key in ("notes", "fields", "stop") if key in given}
    parts = {key: kind(given[key], f"{where}, {key}") for key, kind in _TEMPLATES.items() if key in given}
    task = Task(
        name=name,
        data_set=str(folder / data["set"]) if folder else data["set"],
        file=data["file"],
        metrics=tuple(each.metric for each in scorer.extractions) if scorer else tuple(given.get("metrics", ("acc",))),
        shots=ShotSource(tuple(shots.get("files", ())), shots.get("order", "random"), shots.get("same")),
        scorer=scorer,
        **own,
        **lists,
        **parts,
    )
    _check(task, where)
    return task


def _check(task: Task, where: str) -> None:
    """That the parts of a task belong together."""
    if task.kind not in ("choices", "generate"):
        raise DataError(f'{where}: kind is {task.kind!r}, expected "choices" or "generate".')
    if task.kind == "choices" and (task.choices is None or task.scorer is not None):
        raise DataError(f'{where}: kind is "choices", expected the key choices, and no key answer.')
    if task.kind == "generate" and (task.scorer is None or task.target is None or task.choices is not None):
        raise DataError(f'{where}: kind is "generate", expected the keys answer and target, and no key choices.')
    if unknown := [name for name in task.metrics if task.kind == "choices" and name not in CHOICE_METRICS]:
        raise DataError(f"{where}: metrics has {unknown[0]!r}, expected some of {', '.join(CHOICE_METRICS)}.")
    if task.process is not None and task.process not in PROCESS:
        raise DataError(f"{where}: process is {task.process!r}, expected one of {', '.join(PROCESS)}.")
    if task.shots.order not in ("random", "first"):
        raise DataError(f'{where}: the order of shots is {task.shots.order!r}, expected "random" or "first".')
    if task.num_shots < 0 or task.max_tokens < 1:
        raise DataError(f"{where}: num_shots is {task.num_shots} and max_tokens {task.max_tokens}, expected 0 and 1 at least.")


def _table(given: Mapping[str, Any], where: str, kinds: Mapping[str, type]) -> Mapping[str, Any]:
    for key, value in given.items():
        if key not in kinds or not isinstance(value, kinds[key]):
            shape = ", ".join(f"{name} ({kind.__name__})" for name, kind in kinds.items())
            raise DataError(f"{where}: {key} is {value!r}, expected some of {shape}.")
    if where.endswith(", data") and len(given) < len(kinds):
        raise DataError(f"{where}: names {', '.join(given) or 'nothing'}, expected {' and '.join(kinds)}.")
    return given


def _scorer(given: Mapping[str, Any] | None, where: str) -> TextScorer | None:
    if given is None:
        return None
    kinds = {"extract": dict, "ignore_case": bool, "ignore_punctuation": bool, "remove": list}
    _table(given, where, kinds)
    extractions = []
    for metric, how in given.get("extract", {"exact_match": {}}).items():
        found = _table(how or {}, f"{where}, {metric}", {"pattern": str, "which": int})
        pattern = _pattern(found["pattern"], f"{where}, {metric}") if "pattern" in found else None
        extractions.append(Extraction(metric, pattern, found.get("which", 0)))
    remove = tuple(_pattern(each, f"{where}, remove") for each in given.get("remove", ()))
    return TextScorer(
        tuple(extractions), given.get("ignore_case", False), given.get("ignore_punctuation", False), remove
    )


def _pattern(source: str, where: str) -> re.Pattern[str]:
    try:
        return re.compile(source)
    except re.error as error:
        raise DataError(f"{where}: {source!r} is not a regular expression ({error}). Correct it.") from None


def _parsed(data: bytes, where: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingExtraError(
            'Evaluation needs PyYAML, which is not installed. Install the extra: pip install "gemcut[eval]".'
        ) from None
    try:
        return yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: is not YAML ({error}). Correct it.") from None
