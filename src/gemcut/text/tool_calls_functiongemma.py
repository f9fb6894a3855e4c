"""Tool calls as FunctionGemma writes them, between control tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gemcut.text.functiongemma_grammar import ESCAPE, arguments_grammar
from gemcut.text.json_scanner import MAX_DEPTH
from gemcut.text.tool_calls import StepwiseParser, Tool, ToolCallDelta, ToolCallParser, tool_names

BEGIN, END = "<start_function_call>", "<end_function_call>"
_MARKERS = (BEGIN, END, ESCAPE)
_MARKER = re.compile("|".join(_MARKERS))
_HEAD = re.compile(r"\s*call:([^{<]{1,128})\{")
_KEY = re.compile(r"([^:{}\[\],<]{1,1024}):")
_BARE = re.compile(r"([^:{}\[\],<]{1,1024})[,}\]]")
_WORD_BEGUN = re.compile(r"[^:{}\[\],<]{1,1024}")
_BARE_JSON = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|true|false|null")


class FunctionGemmaToolFormat:
    """Calls look like `<start_function_call>call:f{a:1,b:<escape>text<escape>}<end_function_call>`.

    The model's chat template takes the tools and puts calls and results into the prompt.

    Source: ai.google.dev/gemma/docs/functiongemma/formatting-and-best-practices.
    """

    name = "functiongemma"
    call_token: str | None = BEGIN
    shows_special = True

    def prompt(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
        """The messages with results under the names of their functions, and the tools for the template."""
        names = tool_names(messages)
        turns = [dict(message) for message in messages]
        for turn in turns:
            if turn.get("role") == "tool" and not turn.get("name"):
                turn["name"] = names.get(str(turn.get("tool_call_id")), "")
        described = [
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters or {}} for tool in tools
        ]
        return turns, [{"type": "function", "function": function} for function in described] or None

    def grammar(self, tools: Sequence[Tool], *, is_required: bool, is_parallel: bool) -> str:
        """See `ToolFormat.grammar`."""
        lines = ["start: call+" if is_parallel else "start: call"]
        calls = []
        for index, tool in enumerate(tools):
            lines += arguments_grammar(tool, f"arguments_{index}")
            calls.append(f"{json.dumps(f'call:{tool.name}')} arguments_{index}")
        return "\n".join([*lines, f"call: {BEGIN} ({' | '.join(calls)}) {END}", ""])

    def parser(self, tools: Sequence[Tool]) -> ToolCallParser:
        """See `ToolFormat.parser`."""
        return FunctionGemmaToolCallParser(tools)


class FunctionGemmaToolCallParser(StepwiseParser):
    """See `gemcut.text.tool_calls.ToolCallParser`; arguments are passed on as they come, turned into JSON.

    Args:
        tools: Only these are called.
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        super().__init__(self._content)
        self._names = {tool.name for tool in tools}
        self._open: list[str] = []  # the brackets that would close what is open in the arguments
        self._wanted = ""

    def finish(self) -> list[str | ToolCallDelta]:
        """See `ToolCallParser.finish`."""
        if self._step == self._string:
            self._argument(_inside_json(self._held))
        elif self._held and self._step in (self._content, self._head):
            self._events.append(self._held)
        self._held = ""
        return self.push("")

    @property
    def begun_call(self) -> str:
        """See `ToolCallParser.begun_call`."""
        return BEGIN + self._held if self._step == self._head else ""

    # Each step deals with the beginning of what is held, at least one character. False means: wait for more.

    def _content(self) -> bool:
        """Text up to the next call; control tokens in it are left out, as everywhere."""
        found = _MARKER.search(self._held)
        size = found.start() if found else _certain(self._held)
        if size:
            self._events.append(self._held[:size])
        self._held = self._held[found.end() if found else size :]
        if found and found.group() == BEGIN:
            self._step = self._head
        return found is not None

    def _head(self) -> bool:
        """The function's name."""
        head = _HEAD.match(self._held)
        if head is None and "{" not in self._held and "<" not in self._held and len(self._held) < 256:
            return False
        self._step = self._content
        if head is not None and head[1] in self._names:
            self._events.append(self._calls.begin(head[1], "{"))
            self._held = self._held[head.end() :]
            self._open, self._wanted = ["}"], "key or end"
            self._step = self._structure
        return True

    def _structure(self) -> bool:
        """Arguments outside of strings."""
        self._held = self._held.lstrip()
        if not self._held:
            return False
        first = self._held[0]
        if first == self._open[-1] and self._wanted in ("end", "key or end", "value or end"):
            return self._close()
        if self._wanted == "end":
            return self._take(1, ", ", "key" if self._open[-1] == "}" else "value") if first == "," else self._break()
        if self._wanted.startswith("key"):
            key = _KEY.match(self._held)
            if key:
                return self._take(key.end(), json.dumps(key[1].strip(), ensure_ascii=False) + ": ", "value")
            return self._wait_for_word()
        if first in "{[" and len(self._open) < MAX_DEPTH:
            self._open.append("}" if first == "{" else "]")
            return self._take(1, first, "key or end" if first == "{" else "value or end")
        if self._held.startswith(ESCAPE):
            self._step = self._string
            return self._take(len(ESCAPE), '"', "end")
        if bare := _BARE.match(self._held):
            word = bare[1].strip()
            text = word if _BARE_JSON.fullmatch(word) else json.dumps(word, ensure_ascii=False)
            return self._take(bare.end(1), text, "end")
        return False if ESCAPE.startswith(self._held) else self._wait_for_word()

    def _string(self) -> bool:
        """A text up to the next `<escape>`."""
        end = self._held.find(ESCAPE)
        size = _certain(self._held) if end < 0 else end
        self._argument(_inside_json(self._held[:size]) + ("" if end < 0 else '"'))
        self._held = self._held[size if end < 0 else end + len(ESCAPE) :]
        if end >= 0:
            self._step = self._structure
        return end >= 0

    def _call_end(self) -> bool:
        """Perhaps the control token that ends a call."""
        if END.startswith(self._held) and self._held != END:
            return False
        self._held = self._held.removeprefix(END)
        self._step = self._content
        return True

    def _take(self, size: int, argument: str, wanted: str) -> bool:
        """The first characters mean `argument`; what is wanted next."""
        self._argument(argument)
        self._held = self._held[size:]
        self._wanted = wanted
        return True

    def _close(self) -> bool:
        self._take(1, self._open.pop(), "end")
        if not self._open:
            self._step = self._call_end
        return True

    def _break(self) -> bool:
        """These are no arguments any more."""
        self._step = self._content
        return True

    def _wait_for_word(self) -> bool:
        """Wait if what is held may still become a key or a number."""
        return False if _WORD_BEGUN.fullmatch(self._held) else self._break()

    def _argument(self, text: str) -> None:
        if text:
            self._events.append(self._calls.more(text))


def _certain(text: str) -> int:
    """How much of a text is not the beginning of a control token."""
    last = text.rfind("<")
    return last if last >= 0 and any(marker.startswith(text[last:]) for marker in _MARKERS) else len(text)


def _inside_json(text: str) -> str:
    """A text as it stands inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]
