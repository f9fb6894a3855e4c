"""Tool calls as Gemma 3's documentation has them: all in plain text, by instructions in the prompt."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gemcut.text.chat_template import check_message, content_texts
from gemcut.text.tool_calls import Tool, ToolCallParser, message_calls, tool_names
from gemcut.text.tool_calls_gemma_parser import ARGUMENTS_KEYS, FEW_SPACES, SPACE, GemmaToolCallParser

_INSTRUCTIONS = """\
You have access to functions. To call one, respond with a JSON object in the format of
{"name": function name, "parameters": dictionary of argument name and its value}
To call several, respond with a list of such objects. Write no other text in a response that calls a function."""


class GemmaToolFormat:
    """Calls are JSON objects at the start of a line; Python-style calls are understood, too.

    Grammars make `{"name": "f", "parameters": {...}}`, or a list of them, perhaps in a fence. The parser also reads
    `[f(a=1), g()]` and, in a fence marked `tool_code`, calls one a line.

    Source: ai.google.dev/gemma/docs/capabilities/function-calling has both forms; the `tool_code` and `tool_output`
    fences are those of the Gemma cookbook.
    """

    name = "gemma"
    call_token: str | None = None
    shows_special = False

    def prompt(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
        """Messages whose first user turn begins with the tools, and in which calls and results are text.

        The template gets no tools. A result becomes a turn of the user, one with its neighbours, because templates
        want user and assistant in turn.
        """
        names = tool_names(messages)
        turns: list[dict[str, Any]] = []
        previous = None
        for index, message in enumerate(messages):
            turn = _as_text(message, names, f"messages[{index}]")
            role = message.get("role")
            if turns and "tool" in (role, previous) and turn.get("role") == turns[-1].get("role") == "user":
                turns[-1] = _joined(turns[-1], turn)
            else:
                turns.append(turn)
            previous = role
        if tools:
            described = {"role": "user", "content": _described(tools)}
            first = next((i for i, turn in enumerate(turns) if turn.get("role") == "user"), len(turns))
            turns[first : first + 1] = [_joined(described, turn) for turn in turns[first : first + 1]] or [described]
        return turns, None

    def grammar(self, tools: Sequence[Tool], *, is_required: bool, is_parallel: bool) -> str:
        """See `ToolFormat.grammar`."""
        lines = []
        for index, tool in enumerate(tools):
            lines += [
                f"arguments_{index}: {tool.json_rule(tool.arguments_schema)}",
                f"begun_{index}: /{_head(tool.name)}/",
                f"head_{index}: {json.dumps(_literal_head(tool.name))}",
            ]
        for rule, head in (("call", "head_{0}"), ("begun", 'begun_{0} " "?')):
            calls = (f'{head.format(index)} arguments_{index} "}}"' for index in range(len(tools)))
            lines.append(f"{rule}: {' | '.join(calls)}")
        first, opening = ("call", '"["') if is_required else ("begun", f"/\\[{FEW_SPACES}/")
        answer = f'({first} | {opening} {first} (", " call)* "]")' if is_parallel else first
        if not is_required:
            answer = f'/```[a-z_]*[ \\t]*\\n{SPACE}*/? {answer} "\\n```"?'
        return "\n".join([f"start: {answer}", *lines, ""])

    def parser(self, tools: Sequence[Tool]) -> ToolCallParser:
        """See `ToolFormat.parser`."""
        return GemmaToolCallParser(tools)


def _literal_head(name: str) -> str:
    """A call up to its arguments."""
    return f'{{"name": "{name}", "parameters": '


def _head(name: str) -> str:
    """A call up to the colon before its arguments, in any of the ways in which the parser reads it."""
    keys = "|".join(ARGUMENTS_KEYS)
    parts = ["\\{", '"name"', ":", f'"{re.escape(name)}"', ",", f'"({keys})"', ":"]
    return FEW_SPACES.join(parts).replace("/", "\\/")


def _described(tools: Sequence[Tool]) -> str:
    """Instructions and the list of functions."""
    listed = [
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters or {"type": "object"}}
        for tool in tools
    ]
    return f"{_INSTRUCTIONS}\n{json.dumps(listed, ensure_ascii=False)}"


def _as_text(message: Any, names: Mapping[str, str], where: str) -> dict[str, Any]:
    """A message with its calls, or the result that it is, as text."""
    check_message(message, where)
    text = "".join(content_texts(message.get("content"), where))
    if message["role"] == "tool":
        name = message.get("name") or names.get(str(message.get("tool_call_id")), "")
        return {"role": "user", "content": f"```tool_output\n{name + ': ' if name else ''}{text}\n```"}
    calls = [f"{_literal_head(name)}{arguments}}}" for name, arguments in message_calls(message, where)]
    if calls:
        called = calls[0] if len(calls) == 1 else f"[{', '.join(calls)}]"
        text = f"{text}\n{called}" if text else called
    return {key: value for key, value in message.items() if key != "tool_calls"} | {"content": text}


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Two turns of the user as one."""
    return {**second, "content": f"{first['content']}\n\n{second['content']}"}
