"""Settings as dataclasses, from plain values and to them, every key, kind and range checked."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from gemcut.errors import UsageError

T = TypeVar("T")


def settings_from(kind: type[T], given: Any, where: str) -> T:
    """An instance of a dataclass of settings.

    Args:
        kind: The dataclass; its fields are numbers, texts, switches, Literals, tuples and mappings of texts, None
            beside any of these, and other such dataclasses. A field's metadata limit it: least, most, above.
        given: Keys and values; fields that are left out have their defaults.
        where: What holds them, for errors.

    Raises:
        UsageError: a key is unknown or missing, or a value of the wrong kind or out of range.
    """
    if not isinstance(given, Mapping):
        raise UsageError(f"{where}: is {given!r:.80}, expected keys and values.")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in given:
        if key not in fields:
            raise UsageError(f"{where}: {key!r} is no setting{_nearest(str(key), list(fields))}")
    hints = typing.get_type_hints(kind)
    values = {key: _value(hints[key], value, f"{where}: {key}", fields[key]) for key, value in given.items()}
    for name, field in fields.items():
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in values and not has_default:
            raise UsageError(f"{where}: {name!r} is missing, expected {_in_words(hints[name])}.")
    return kind(**values)


def settings_to(settings: Any) -> dict[str, Any]:
    """The values of a dataclass of settings as mappings, lists and plain values."""
    return {field.name: _plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return settings_to(value)
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _value(hint: Any, value: Any, where: str, field: dataclasses.Field[Any]) -> Any:
    """A value as its field has it."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return settings_from(hint, {} if value is None else value, where)
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    hint = next(option for option in options if option is not type(None))
    converted = _converted(hint, value)
    if converted is None:
        raise UsageError(f"{where} is {value!r:.80}, expected {_in_words(hint)}{_or_none(options)}.")
    if isinstance(converted, int | float) and not isinstance(converted, bool):
        _check_range(converted, where, field)
    return converted


def _converted(hint: Any, value: Any) -> Any:
    """A value as a kind has it; None where it is of another kind."""
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return value if isinstance(value, str) and value in typing.get_args(hint) else None
    if origin is tuple:
        values = [value] if isinstance(value, str) else value
        return tuple(values) if isinstance(values, list | tuple) and all(isinstance(v, str) for v in values) else None
    if origin is not None:
        is_table = isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair)
        return dict(value) if is_table else None
    if hint is float:
        return _number(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is hint else None


def _number(value: Any) -> float | None:
    """A finite number; YAML reads 1e-4 as a text."""
    try:
        number = float(value) if type(value) in (int, float, str) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _check_range(value: float, where: str, field: dataclasses.Field[Any]) -> None:
    least, most, above = (field.metadata.get(name) for name in ("least", "most", "above"))
    limits = [f"at least {least}"] * (least is not None) + [f"more than {above}"] * (above is not None)
    limits += [f"at most {most}"] * (most is not None)
    inside = (least is None or value >= least) and (most is None or value <= most) and (above is None or value > above)
    if not inside:
        raise UsageError(f"{where} is {value}, expected {' and '.join(limits)}.")


def _in_words(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(typing.get_args(hint))}"
    if typing.get_origin(hint) is tuple:
        return "a text or a list of texts"
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return words.get(hint, "texts by name")


def _or_none(options: tuple[Any, ...]) -> str:
    return ", or null" if type(None) in options else ""


def _nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f". Did you mean {near[0]!r}?" if near else f", expected some of {', '.join(known)}."
