"""The recipe that a `gemcut tune` command means: a file's, or the standard one, changed by the flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemcut.errors import UsageError

if TYPE_CHECKING:
    from gemcut.tune.recipe import Recipe

_MAX_RECIPE_BYTES = 1 << 20


def recipe_of(first: str, data: Sequence[str], changes: Mapping[str, Any]) -> Recipe:
    """The recipe of a command.

    Args:
        first: A model reference, or a path to a recipe, which ends in .yaml or .yml.
        data: Files of data; of a recipe's they take the place.
        changes: Values by their place in the recipe ("lora.rank"); those that are None change nothing.

    Raises:
        UsageError: the recipe or a flag makes no sense, or there is no data.
        NotFoundError: there is no such recipe.
    """
    from gemcut.tune.recipe import Recipe

    is_recipe = Path(first).suffix in (".yaml", ".yml")
    values: dict[str, Any] = _read(Path(first)) if is_recipe else {"model": first}
    if data:
        values["data"] = list(data)
    if "data" not in values:
        raise UsageError(f"gemcut tune {first}: names no data. Add files: gemcut tune {first} data.jsonl.")
    for place, value in changes.items():
        if value is not None:
            _put(values, place.split("."), value)
    return Recipe.from_dict(values, first if is_recipe else "gemcut tune")


def mapping_of(texts: Sequence[str]) -> dict[str, str] | None:
    r"""What --map FIELD=COLUMN says; in a text with {columns}, \n and \t are a line break and a tab.

    Raises:
        UsageError: there is no = in one.
    """
    pairs = {}
    for text in texts:
        field, is_pair, column = text.partition("=")
        if not is_pair or not column:
            raise UsageError(f"--map {text}: expected FIELD=COLUMN, such as --map prompt=question.")
        pairs[field.strip()] = column.replace("\\n", "\n").replace("\\t", "\t") if "{" in column else column
    return pairs or None


def held_out_of(text: str | None) -> dict[str, Any]:
    """What --held-out means: a share below 1, or a file."""
    if text is None:
        return {}
    try:
        share = float(text)
    except ValueError:
        return {"evaluation.data": text, "evaluation.share": 0.0}
    return {"evaluation.share": share, "evaluation.data": None}


def _read(path: Path) -> dict[str, Any]:
    from gemcut.files import read_bytes
    from gemcut.tune.yaml_text import from_yaml

    try:
        text = read_bytes(path, _MAX_RECIPE_BYTES, UsageError).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise UsageError(f"{path}: byte {problem.start + 1} is not UTF-8, expected a recipe in YAML.") from None
    values = from_yaml(text, str(path))
    if not isinstance(values, dict):
        raise UsageError(f"{path}: is {type(values).__name__}, expected keys and values: model, data, ...")
    return values


def _put(values: dict[str, Any], place: Sequence[str], value: Any) -> None:
    """Put a value at its place in nested mappings."""
    for key in place[:-1]:
        inner = values.get(key)
        values[key] = inner = dict(inner) if isinstance(inner, Mapping) else {}
        values = inner
    values[place[-1]] = value
