"""What the columns of a record mean: conversations, prompts with completions, or plain text."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gemcut.errors import DataError, UsageError
from gemcut.tune.records import Record

Messages = tuple[Mapping[str, Any], ...]
_PATTERN = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")
_ROLES = ("system", "developer", "user", "assistant", "tool")
_AFTER = {  # which role may follow which
    None: ("system", "developer", "user"),
    "system": ("user",),
    "developer": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}
_SHAREGPT_ROLES = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "model": "assistant", "chatgpt": "assistant", "bard": "assistant", "bing": "assistant", "tool": "tool",
    "observation": "tool", "function_response": "tool",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Conversation:
    """Messages as OpenAI has them, the last one the assistant's; a message of weight 0 is not learnt."""

    messages: Messages
    tools: Sequence[Mapping[str, Any]] | None
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and what is to follow it.

    Attributes:
        prompt: What the user says, for a chat template.
        plain_prompt: What stands before the completion where there is no chat template.
        completion: What is learnt.
        system: The system message, for a chat template.
    """

    prompt: str
    plain_prompt: str
    completion: str
    system: str | None
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class PlainText:
    """A text that is learnt from beginning to end."""

    text: str
    source: str


Example = Conversation | Pair | PlainText


@dataclasses.dataclass(frozen=True)
class _Layout:
    """The fields of a format, each with the columns it is known by, best first."""

    needed: Mapping[str, tuple[str, ...]]
    optional: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


_SYSTEM = {"system": ("system",)}
# In the order in which they are looked for.
LAYOUTS: Mapping[str, _Layout] = {
    "messages": _Layout({"messages": ("messages", "conversations", "conversation")}, {"tools": ("tools",)}),
    "sharegpt": _Layout({"conversations": ("conversations", "conversation")}, _SYSTEM),
    "alpaca": _Layout({"instruction": ("instruction",), "output": ("output",)}, {"input": ("input",), **_SYSTEM}),
    "prompt-completion": _Layout(
        {"prompt": ("prompt", "question"), "completion": ("completion", "response", "answer")}, _SYSTEM
    ),
    "text": _Layout({"text": ("text",)}),
}
FIELDS = tuple(dict.fromkeys(field for layout in LAYOUTS.values() for field in (*layout.needed, *layout.optional)))


@dataclasses.dataclass(frozen=True)
class RecordFormat:
    """How the records of a file are read.

    Attributes:
        name: One of `LAYOUTS`.
        columns: For each field a column, or a text with {columns} in it.
        unused: Columns of the first record that no field uses.
    """

    name: str
    columns: Mapping[str, str]
    unused: tuple[str, ...] = ()

    def in_words(self) -> str:
        """The format and where its fields come from."""
        renamed = [f"{field} = {column!r}" for field, column in self.columns.items() if field != column]
        return ": ".join([self.name, ", ".join(renamed)]) if renamed else self.name

    def example(self, record: Record) -> Example:
        """A record's text.

        Raises:
            DataError: the record is of another format, or not as its format has it; its place is named.
        """
        source = record.source
        values = {field: self._value(field, column, record) for field, column in self.columns.items()}
        if self.name == "messages":
            return _conversation(values["messages"], values.get("tools"), source)
        if self.name == "sharegpt":
            messages = [_from_sharegpt(turn, f"{source}: turn {i}") for i, turn in enumerate(_list(values, source), 1)]
            said = _text(values.get("system"), "system", source, optional=True)
            if said and not _has_system(messages):
                messages.insert(0, {"role": "system", "content": said})
            return _conversation(messages, None, source)
        if isinstance(values.get("prompt"), list):
            return _conversation(_joined(values["prompt"], values["completion"], source), None, source)
        texts = {
            field: _text(value, field, source, optional=field in LAYOUTS[self.name].optional)
            for field, value in values.items()
        }
        system = texts.get("system") or None
        if self.name == "text":
            return PlainText(texts["text"], source)
        if self.name == "alpaca":
            return _from_alpaca(texts["instruction"], texts.get("input", ""), texts["output"], system, source)
        return Pair(texts["prompt"], texts["prompt"], texts["completion"], system, source)

    def _value(self, field: str, column: str, record: Record) -> Any:
        """A field of a record: a column, or a text made of several."""
        if "{" in column:
            return _PATTERN.sub(lambda found: _filled(found, record), column)
        if column not in record.values:
            if field in LAYOUTS[self.name].optional:
                return None
            raise DataError(
                f"{record.source}: has the columns {_listed(record.values)}, expected {column!r} ({self.name}, as the "
                "file's first record). Put records of another format into a file of their own."
            )
        return record.values[column]


def detect(record: Record, asked: str = "auto", mapping: Mapping[str, str] | None = None) -> RecordFormat:
    """The format of a file.

    Args:
        record: Its first record.
        asked: The format's name; "auto" looks for one.
        mapping: Fields that are found elsewhere: a column, or a text with {columns} in it.

    Raises:
        UsageError: there is no such format or field, or the fields belong to no format.
        DataError: the record is of no known format.
    """
    mapping = dict(mapping or {})
    if asked not in ("auto", *LAYOUTS):
        raise UsageError(f"--format {asked}: expected auto or one of {', '.join(LAYOUTS)}.")
    if unknown := [field for field in mapping if field not in FIELDS]:
        raise UsageError(f"--map {unknown[0]}=...: expected one of the fields {', '.join(FIELDS)}.")
    for column in mapping.values():
        _check_columns(column, record)
    for name in LAYOUTS if asked == "auto" else (asked,):
        columns = _columns_of(name, record, mapping)
        if columns is not None and (
            asked != "auto" or _looks_like(name, record.values.get(next(iter(columns.values()))))
        ):
            used = {name for column in columns.values() for name in _names_in(column)}
            return RecordFormat(name, columns, tuple(column for column in record.values if column not in used))
    raise DataError(
        f"{record.source}: has the columns {_listed(record.values)}, expected those of "
        f"{asked if asked != 'auto' else 'a known format'}: {_needed(asked)}. Say where the fields are, such as "
        "--map prompt=COLUMN --map completion=COLUMN."
    )


def _columns_of(name: str, record: Record, mapping: Mapping[str, str]) -> dict[str, str] | None:
    """Where a format's fields are in a record; None where one is nowhere, or a mapped one is not the format's."""
    layout = LAYOUTS[name]
    fields = {**layout.needed, **layout.optional}
    if any(field not in fields for field in mapping):
        return None
    columns = {}
    for field, known in fields.items():
        column = mapping.get(field) or next((each for each in known if each in record.values), None)
        if column is not None:
            columns[field] = column
        elif field in layout.needed:
            return None
    return columns


def _looks_like(name: str, value: Any) -> bool:
    """Whether the first field of a record is of the kind that a format has there."""
    if name not in ("messages", "sharegpt"):
        return True
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and ("role" if name == "messages" else "from") in first


def _check_columns(column: str, record: Record) -> None:
    for name in _names_in(column):
        if name not in record.values:
            raise DataError(f"{record.source}: has no column {name!r} for --map, only {_listed(record.values)}.")


def _names_in(column: str) -> list[str]:
    """The columns that a mapping's value names."""
    return [name for name in _PATTERN.findall(column) if name] if "{" in column else [column]


def _filled(found: re.Match[str], record: Record) -> str:
    if found[1] is None:
        return found[0][0]
    if found[1] not in record.values:
        raise DataError(f"{record.source}: has the columns {_listed(record.values)}, expected {found[1]!r} too.")
    return _text(record.values[found[1]], found[1], record.source)


def _text(value: Any, field: str, source: str, *, optional: bool = False) -> str:
    """A text; a number, such as a label, is written as JSON has it."""
    if isinstance(value, str):
        return value
    if value is None and optional:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise DataError(f"{source}: {field} is {json.dumps(value, default=str)[:60]}, expected a text.")


def _from_alpaca(instruction: str, given: str, output: str, system: str | None, source: str) -> Pair:
    prompt = f"{instruction}\n\n{given}" if given else instruction
    sections = f"### Instruction:\n{instruction}\n\n" + (f"### Input:\n{given}\n\n" if given else "")
    return Pair(prompt, f"{sections}### Response:\n", output, system, source)


def _from_sharegpt(turn: Any, where: str) -> dict[str, Any]:
    if not isinstance(turn, dict) or not {"from", "value"} <= turn.keys():
        raise DataError(f"{where} is {json.dumps(turn, default=str)[:60]}, expected from and value.")
    role = _SHAREGPT_ROLES.get(turn["from"]) if isinstance(turn["from"], str) else None
    if role is None:
        raise DataError(f"{where} is from {turn['from']!r:.40}, expected one of {', '.join(_SHAREGPT_ROLES)}.")
    return {"role": role, "content": turn["value"]} | ({"weight": turn["weight"]} if "weight" in turn else {})


def _joined(prompt: list[Any], completion: Any, source: str) -> list[Any]:
    """The messages of a prompt and those of its completion."""
    if not isinstance(completion, list):
        raise DataError(f"{source}: prompt is a list of messages and completion is not, expected both or neither.")
    return [*prompt, *completion]


def _list(values: Mapping[str, Any], source: str) -> list[Any]:
    turns = values["conversations"]
    if not isinstance(turns, list):
        raise DataError(f"{source}: conversations is {json.dumps(turns, default=str)[:60]}, expected a list of turns.")
    return turns


def _conversation(messages: Any, tools: Any, source: str) -> Conversation:
    """Messages whose roles have been checked."""
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{source}: messages is {json.dumps(messages, default=str)[:60]}, expected a list of messages.")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise DataError(f"{source}: tools is {json.dumps(tools, default=str)[:60]}, expected a list of objects.")
    before = None
    for index, message in enumerate(messages):
        before = _checked_role(message, before, f"{source}: messages[{index}]")
    if before != "assistant":
        raise DataError(
            f"{source}: the last message is of {before!r}, expected 'assistant': there is nothing to learn."
        )
    # Arrow gives every message all keys that any has.
    kept = [{key: value for key, value in message.items() if value is not None} for message in messages]
    return Conversation(tuple({"content": None, **message} for message in kept), tools or None, source)


def _checked_role(message: Any, before: str | None, where: str) -> str:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise DataError(f"{where} is {json.dumps(message, default=str)[:60]}, expected a role and a content.")
    role = message["role"]
    if role not in _ROLES:
        raise DataError(f"{where} is of {role!r:.40}, expected one of the roles {', '.join(_ROLES)}.")
    if role not in _AFTER[before]:
        found = f"after one of {before!r}" if before else "the first"
        raise DataError(f"{where} is of {role!r}, {found}, expected one of {' or '.join(map(repr, _AFTER[before]))}.")
    if message.get("content") is None and not (role == "assistant" and message.get("tool_calls")):
        raise DataError(f"{where} has no content, expected a text.")
    if message.get("weight") not in (None, 0, 1):
        raise DataError(f"{where}: weight is {message['weight']!r:.40}, expected 0 or 1.")
    return str(role)


def _has_system(messages: Sequence[Mapping[str, Any]]) -> bool:
    return bool(messages) and messages[0]["role"] in ("system", "developer")


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(map(str, values)) or "none"


def _needed(asked: str) -> str:
    names = LAYOUTS if asked == "auto" else (asked,)
    return "; ".join(f"{name} ({', '.join(LAYOUTS[name].needed)})" for name in names)


__all__ = ["FIELDS", "LAYOUTS", "Conversation", "Example", "Pair", "PlainText", "RecordFormat", "detect"]
