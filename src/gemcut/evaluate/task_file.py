"""Task files: YAML, one task each. Those that Gemcut brings and a user's are read alike."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from gemcut.errors import DataError, MissingExtraError, NotFoundError
from gemcut.evaluate.aggregate import AGGREGATES
from gemcut.evaluate.answers import scorer_of
from gemcut.evaluate.data import known_data_sets
from gemcut.evaluate.metrics import CHOICE_METRICS
from gemcut.evaluate.rows import EXAMPLES, PROCESS
from gemcut.evaluate.task import ShotSource, Task
from gemcut.evaluate.templates import Expression, Template
from gemcut.files import read_bytes

MAX_TASK_BYTES = 1 << 20
_KEYS = {
    "title": str, "kind": str, "data": dict, "prompt": str, "gold": str, "metrics": list, "licence": str, "notes": list,
    "process": str, "fields": list, "id": str, "num_shots": int, "num_rows": int, "shots": dict, "description": str,
    "choices": str, "continuation": str, "target": str, "delimiter": str, "separator": str, "stop": list,
    "max_tokens": int, "answer": dict, "subset": str, "labels": str, "counted": list, "aggregate": str, "parts": dict,
}  # fmt: skip
_DATA_KEYS = {"set": str, "file": str, "files": list, "only": str, "sha256": str, "join": str, "by": str, "key": str}
_SHOT_KEYS = {
    "files": list,
    "fallback": list,
    "order": str,
    "same": str,
    "only": str,
    "process": str,
    "without_item": bool,
}
_NEEDED = ("title", "kind", "data", "prompt")
_TEMPLATES = {"prompt": Template, "description": Template, "continuation": Template, "target": Template,
              "choices": Expression, "gold": Expression, "subset": Expression, "labels": Expression}  # fmt: skip
_OWN = ("title", "kind", "licence", "num_shots", "num_rows", "delimiter", "separator", "max_tokens", "process")
_KINDS = {"choices": ("choices", "gold"), "generate": ("answer",), "rolling": ()}


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
    given = _parsed(read_bytes(path, MAX_TASK_BYTES, DataError), str(path))
    return task_of(given, path.stem, str(path), folder=path.resolve().parent)


def task_of(given: Any, name: str, where: str, folder: Path | None = None) -> Task:
    """The task that a file describes.

    Args:
        given: What the file says.
        name: Of the task.
        where: The file, for errors.
        folder: Of a user's file; a data set that Gemcut does not know is a folder beside it, "." this folder itself.

    Raises:
        DataError: it says something that no task has, or leaves out what each has.
    """
    if not isinstance(given, Mapping):
        raise DataError(f"{where}: is {type(given).__name__}, expected keys and values: {', '.join(_NEEDED)}.")
    _check_keys(given, where, _KEYS)
    if missing := [key for key in _NEEDED if key not in given]:
        raise DataError(f"{where}: has no {missing[0]!r}, expected {', '.join(_NEEDED)}.")
    parts = given.get("parts", {})
    task = _plain_task({key: value for key, value in given.items() if key != "parts"}, name, where, folder)
    if not parts:
        return task
    if task.subset is None:
        raise DataError(f"{where}: has the key parts, expected the key subset too. Say which field parts the task.")
    return dataclasses.replace(
        task,
        parts={key: _part(given, changes, name, f"{where}, parts, {key}", folder) for key, changes in parts.items()},
    )


def _part(given: Mapping[str, Any], changes: Any, name: str, where: str, folder: Path | None) -> Task:
    """The task of a subset: the file's, with some keys changed; a key that is null is left out."""
    if not isinstance(changes, Mapping):
        raise DataError(f"{where}: is {changes!r}, expected keys and values.")
    merged = {key: value for key, value in {**given, **changes}.items() if value is not None and key != "parts"}
    _check_keys(merged, where, _KEYS)
    return _plain_task(merged, name, where, folder)


def _plain_task(given: Mapping[str, Any], name: str, where: str, folder: Path | None) -> Task:
    data = _data(given["data"], f"{where}, data", folder)
    scorer = scorer_of(given.get("answer"), f"{where}, answer")
    lists: dict[str, Any] = {
        key: tuple(map(str, given[key])) for key in ("notes", "fields", "stop", "counted") if key in given
    }
    texts: dict[str, Any] = {
        key: kind(given[key], f"{where}, {key}") for key, kind in _TEMPLATES.items() if key in given
    }
    standard = scorer.metrics if scorer else ("acc",) if given["kind"] == "choices" else ("word_perplexity",)
    task = Task(
        name=name,
        metrics=tuple(map(str, given.get("metrics", standard))),
        shots=_shots(given.get("shots", {}), f"{where}, shots"),
        scorer=scorer,
        id_field=given.get("id", "id"),
        aggregate_name=given.get("aggregate", "perplexity" if given["kind"] == "rolling" else "mean"),
        **{key: given[key] for key in _OWN if key in given},
        **data,
        **lists,
        **texts,
    )
    _check(task, given, where)
    return (
        task
        if task.licence
        else dataclasses.replace(task, licence=known_data_sets().get(task.data_set, {}).get("licence", ""))
    )


def _data(given: Mapping[str, Any], where: str, folder: Path | None) -> dict[str, Any]:
    _check_keys(given, where, _DATA_KEYS)
    if "set" not in given or ("file" in given) == ("files" in given):
        raise DataError(f"{where}: names {', '.join(given) or 'nothing'}, expected set, and file or files.")
    if ("join" in given) != ("by" in given):
        raise DataError(f"{where}: has one of join and by, expected both or neither.")
    own = folder is not None and given["set"] not in known_data_sets()
    return {
        "data_set": str(folder / given["set"]) if folder is not None and own else given["set"],
        "files": tuple(map(str, given.get("files", (given.get("file"),)))),
        "only": Expression(given["only"], f"{where}, only") if "only" in given else None,
        "joined": (given["join"], given["by"], Expression(given.get("key", given["by"]), f"{where}, key"))
        if "join" in given
        else None,
        "sha256": given.get("sha256"),
    }


def _shots(given: Mapping[str, Any], where: str) -> ShotSource:
    _check_keys(given, where, _SHOT_KEYS)
    if given.get("order", "random") not in ("random", "first"):
        raise DataError(f'{where}: the order is {given["order"]!r}, expected "random" or "first".')
    if given.get("process") not in (None, *EXAMPLES):
        raise DataError(f"{where}: process is {given['process']!r}, expected one of {', '.join(EXAMPLES)}.")
    changes: dict[str, Any] = {key: tuple(map(str, given.get(key, ()))) for key in ("files", "fallback")}
    if "only" in given:
        changes["only"] = Expression(given["only"], f"{where}, only")
    return ShotSource(**{**given, **changes})


def _check(task: Task, given: Mapping[str, Any], where: str) -> None:
    """That the parts of a task belong together."""
    if task.kind not in _KINDS:
        raise DataError(f"{where}: kind is {task.kind!r}, expected one of {', '.join(_KINDS)}.")
    for key in ("choices", "gold", "answer"):
        if (key in given) != (key in _KINDS[task.kind]) and not (key == "gold" and task.kind == "generate"):
            need = ", ".join(_KINDS[task.kind]) or "none of them"
            raise DataError(f"{where}: kind is {task.kind!r}, expected of the keys choices, gold and answer: {need}.")
    if unknown := [
        name for name in (*task.metrics, *task.counted) if task.kind == "choices" and name not in CHOICE_METRICS
    ]:
        raise DataError(f"{where}: metrics has {unknown[0]!r}, expected some of {', '.join(CHOICE_METRICS)}.")
    for key, value, known in (("process", task.process, PROCESS), ("aggregate", task.aggregate_name, AGGREGATES)):
        if value is not None and value not in known:
            raise DataError(f"{where}: {key} is {value!r}, expected one of {', '.join(known)}.")
    if task.num_shots < 0 or task.max_tokens < 1:
        raise DataError(
            f"{where}: num_shots is {task.num_shots} and max_tokens {task.max_tokens}, expected 0 and 1 at least."
        )
    if task.num_shots and task.kind == "generate" and task.target is None:
        raise DataError(f"{where}: has examples (num_shots), expected the key target: what an example ends with.")


def _check_keys(given: Mapping[str, Any], where: str, kinds: Mapping[str, type]) -> None:
    for key, value in given.items():
        if key not in kinds:
            raise DataError(f"{where}: {key!r} is no key of it, expected some of {', '.join(kinds)}.")
        if not isinstance(value, kinds[key]) or (isinstance(value, bool) and kinds[key] is not bool):
            raise DataError(f"{where}: {key} is {value!r}, expected {kinds[key].__name__}.")


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


__all__ = ["load_task", "task_names", "task_of"]
