"""Tools that a model may call: what a request says of them, and the calls found in an answer."""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from gemcut.errors import UsageError
from gemcut.text.json_spacing import json_options

MAX_TOOLS = 128
_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")


@dataclasses.dataclass(frozen=True)
class Tool:
    """A function that a model may call.

    Attributes:
        name: Letters, digits and _ . : / -.
        description: What it does, for the model.
        parameters: JSON schema of its arguments, of type object; None for a function without any.
        is_strict: Arguments must satisfy the whole schema; otherwise what a grammar cannot express is left out of it.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None
    is_strict: bool = False

    @property
    def arguments_schema(self) -> dict[str, Any]:
        """The schema that arguments are held to: undeclared ones only where the tool allows them by name."""
        schema = {"type": "object", **(self.parameters or {"properties": {}})}
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        return schema

    def json_rule(self, schema: Mapping[str, Any]) -> str:
        """The grammar of a value of these arguments in JSON."""
        return f"%json {json.dumps({**schema, 'x-guidance': json_options(is_lenient=not self.is_strict)})}"


def _new_id() -> str:
    return "call_" + secrets.token_hex(12)


@dataclasses.dataclass(frozen=True)
class ToolCall:
    """A call found in a text.

    Attributes:
        name: The function's name.
        arguments: JSON text of an object; broken off where the text was.
        id: Tells the calls of a conversation apart.
    """

    name: str
    arguments: str
    id: str = dataclasses.field(default_factory=_new_id, compare=False)


@dataclasses.dataclass(frozen=True)
class ToolCallDelta:
    """The next part of a call in a stream; the parts with one `index` add up to a `ToolCall`.

    Attributes:
        index: Which call of the answer, from 0.
        name: The function's name, on the first part only.
        arguments: What comes next of the arguments' JSON text.
        id: The call's id, on the first part only.
    """

    index: int
    name: str | None
    arguments: str
    id: str | None = dataclasses.field(default=None, compare=False)


class ToolCallParser(Protocol):
    """Finds calls in a text that comes in pieces.

    What `push` and `finish` return adds up to the same content and calls however the text is cut into pieces.
    """

    def push(self, text: str) -> list[str | ToolCallDelta]:
        """The content and parts of calls that are certain now."""

    def finish(self) -> list[str | ToolCallDelta]:
        """The rest; the text ends here."""

    @property
    def begun_call(self) -> str:
        """The text of a call that has begun, once it is sure that it is one, until its arguments begin; else empty."""


class StepwiseParser:
    """The part of a `ToolCallParser` that takes a text step by step; a subclass has the steps.

    A step takes what is certain from the front of `_held`, puts what it found into `_events`, names the next step in
    `_step`, and returns whether it got anywhere.

    Args:
        first_step: Where it begins.
    """

    def __init__(self, first_step: Callable[[], bool]) -> None:
        self._held = ""
        self._events: list[str | ToolCallDelta] = []
        self._calls = CallCounter()
        self._step = first_step

    def push(self, text: str) -> list[str | ToolCallDelta]:
        """See `ToolCallParser.push`."""
        self._held += text
        while self._held and self._step():
            pass  # the step has done it
        events, self._events = self._events, []
        return events


class ToolFormat(Protocol):
    """How a model is told of tools, how it calls them, and how it is told what they returned.

    Attributes:
        name: "gemma" or "functiongemma".
        call_token: The control token that begins a call; None where calls are plain text.
        shows_special: Calls are written with control tokens, so the parser needs the answer's text with them in it.
    """

    name: str
    call_token: str | None
    shows_special: bool

    def prompt(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
        """Messages and `tools` for the chat template.

        Args:
            messages: OpenAI-style, with `tool_calls` of the assistant and messages of the role "tool".
            tools: May be empty: an old conversation can hold calls of tools that are gone.

        Raises:
            UsageError: a message is not of that form.
        """

    def grammar(self, tools: Sequence[Tool], *, is_required: bool, is_parallel: bool) -> str:
        """Lark grammar (llguidance's dialect) of calls.

        Args:
            tools: At least one.
            is_required: Calls are the whole answer. Otherwise the grammar sets in at what a parser's `begun_call` says.
            is_parallel: There may be several calls.

        Raises:
            UsageError: a tool's arguments cannot be written in this format.
        """

    def parser(self, tools: Sequence[Tool]) -> ToolCallParser:
        """A parser that knows the calls of these tools; what calls others is content."""


def read_tools(tools: Any) -> tuple[Tool, ...]:
    """The tools of a request, checked.

    Args:
        tools: A list of {"type": "function", "function": {"name", "description", "parameters", "strict"}}, or None.

    Raises:
        UsageError: an entry is not of that form, or two have one name.
    """
    if not isinstance(tools or [], list | tuple):
        raise UsageError(f"tools: found a {type(tools).__name__}, expected a list of functions.")
    if len(tools or ()) > MAX_TOOLS:
        raise UsageError(f"tools: found {len(tools)}, expected at most {MAX_TOOLS}.")
    known: dict[str, Tool] = {}
    for index, entry in enumerate(tools or ()):
        tool = _tool(entry, f"tools[{index}]")
        if tool.name in known:
            raise UsageError(f"tools[{index}]: the name {tool.name!r} is there twice, expected one of each.")
        known[tool.name] = tool
    return tuple(known.values())


def _tool(entry: Any, where: str) -> Tool:
    function = entry.get("function") if isinstance(entry, Mapping) else None
    if not isinstance(function, Mapping) or entry.get("type", "function") != "function":
        raise UsageError(f'{where}: found {entry!r:.80}, expected {{"type": "function", "function": {{"name": ...}}}}.')
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"{where}: name is {name!r:.80}, expected 1 to 128 letters, digits and _ . : / -.")
    if parameters is not None and (not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object"):
        raise UsageError(f"{where}: parameters is {parameters!r:.80}, expected a JSON schema of type object.")
    return Tool(name, str(function.get("description") or ""), parameters, bool(function.get("strict")))


def choose_tools(tools: Sequence[Tool], tool_choice: Any) -> tuple[tuple[Tool, ...], bool]:
    """Which tools an answer may call, and whether it must call one.

    Args:
        tools: The tools of the request.
        tool_choice: "none", "auto", "required", {"type": "function", "function": {"name": ...}}, or None: "auto".

    Raises:
        UsageError: the choice is none of these, or names no tool of the request.
    """
    if tool_choice in (None, "auto"):
        return tuple(tools), False
    if tool_choice == "none":
        return (), False
    if tool_choice == "required":
        if not tools:
            raise UsageError('tool_choice: it is "required", but there are no tools. Send some in "tools".')
        return tuple(tools), True
    function = tool_choice.get("function") if isinstance(tool_choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or tool_choice.get("type", "function") != "function":
        raise UsageError(
            f'tool_choice: found {tool_choice!r:.80}, expected "none", "auto", "required" or '
            '{"type": "function", "function": {"name": ...}}.'
        )
    for tool in tools:
        if tool.name == name:
            return (tool,), True
    raise UsageError(f"tool_choice: {name!r:.80} is no tool, expected one of {[tool.name for tool in tools]!s:.200}.")


def parse_tool_calls(parser: ToolCallParser, text: str) -> tuple[str, list[ToolCall]]:
    """Content and calls of a whole answer."""
    return gather([*parser.push(text), *parser.finish()])


def gather(events: Iterable[str | ToolCallDelta]) -> tuple[str, list[ToolCall]]:
    """What the events of a parser add up to: content and calls."""
    content: list[str] = []
    calls: list[ToolCall] = []
    for event in events:
        if isinstance(event, str):
            content.append(event)
        elif event.name is not None:
            calls.append(ToolCall(event.name, event.arguments, event.id or _new_id()))
        else:
            calls[event.index] = dataclasses.replace(
                calls[event.index], arguments=calls[event.index].arguments + event.arguments
            )
    return "".join(content), calls


class CallCounter:
    """Makes the deltas of one answer's calls: each call's first one brings its name and id."""

    def __init__(self) -> None:
        self._last = -1

    @property
    def is_empty(self) -> bool:
        """Whether no call has begun."""
        return self._last < 0

    def begin(self, name: str, arguments: str = "") -> ToolCallDelta:
        """The first part of the next call."""
        self._last += 1
        return ToolCallDelta(self._last, name, arguments, _new_id())

    def more(self, arguments: str) -> ToolCallDelta:
        """A further part of the present call."""
        return ToolCallDelta(self._last, None, arguments)


def message_calls(message: Mapping[str, Any], where: str) -> list[tuple[str, str]]:
    """Name and arguments (JSON text, as the client sent it) of the calls in a message of the assistant.

    Raises:
        UsageError: a call is not of the form {"function": {"name": ..., "arguments": ...}}.
    """
    calls = []
    for call in message.get("tool_calls") or ():
        function = checked_call(call, where)["function"]
        if not isinstance(function.get("name"), str):
            raise UsageError(f"{where}: tool call {call!r:.80} has no name, expected the name of a function.")
        given = call["function"].get("arguments")
        text = given if isinstance(given, str) and given else json.dumps(function["arguments"], ensure_ascii=False)
        calls.append((function["name"], text))
    return calls


def checked_call(call: Any, where: str) -> dict[str, Any]:
    """A call of a message with its arguments as a mapping, as templates want them; OpenAI's interface has JSON text.

    Raises:
        UsageError: it is not of that form.
    """
    function = call.get("function") if isinstance(call, Mapping) else None
    arguments = function.get("arguments", {}) if isinstance(function, Mapping) else None
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
    if not isinstance(function, Mapping) or not isinstance(arguments, Mapping):
        raise UsageError(
            f"{where}: tool call {call!r:.80} is not understood, expected "
            "{'function': {'name': ..., 'arguments': {...}}}, the arguments as a mapping or as its JSON text."
        )
    return dict(call) | {"function": dict(function) | {"arguments": arguments}}


def tool_names(messages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The function's name for each id of a call in a conversation."""
    names: dict[str, str] = {}
    for index, message in enumerate(messages):
        for call in message.get("tool_calls") or () if isinstance(message, Mapping) else ():
            checked = checked_call(call, f"messages[{index}]")
            if isinstance(checked.get("id"), str):
                names[checked["id"]] = str(checked["function"].get("name"))
    return names
