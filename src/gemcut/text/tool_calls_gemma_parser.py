"""Finds the calls in a Gemma 3 model's text as it comes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from gemcut.text.json_scanner import JsonObjectScanner
from gemcut.text.python_calls import PythonListScanner, python_calls
from gemcut.text.tool_calls import StepwiseParser, Tool, ToolCallDelta

ARGUMENTS_KEYS = ("parameters", "arguments")
SPACE = "[ \\t\\r\\n]"
FEW_SPACES = SPACE + "{0,4}"
_SPACES = " \t\r\n"
_MAX_PYTHON = 16_384  # characters of a Python-style block that are held back
_RUN = re.compile(SPACE + "+")


def _begun(text: str) -> str:
    """A pattern of `text`, or of its beginning where the subject ends there."""
    return "".join(rf"(?:{re.escape(character)}|\Z)" for character in text)


# The heads of calls. These patterns also match what may still become a head: then the match reaches the subject's end.
_LEAD = rf"{SPACE}*(?P<fence>{_begun('```')}(?P<language>[a-z_]*)[ \t]*(?:\n|\Z){SPACE}*)?(?P<list>\[{FEW_SPACES})?"
_JSON_HEAD = re.compile(
    _LEAD
    + FEW_SPACES.join([_begun("{"), _begun('"name"'), _begun(":"), _begun('"')])
    + r'(?P<name>[^"\\\n]*)'
    + FEW_SPACES.join([_begun('"'), _begun(","), _begun('"')])
    + r"(?P<key>[a-z]*)"
    + FEW_SPACES.join([_begun('"'), _begun(":"), r"(?P<arguments>(?=\{))?"])
)
_PYTHON_HEAD = re.compile(_LEAD + r"(?P<name>[A-Za-z_][A-Za-z0-9_.]*)?(?P<arguments>\()?")


class GemmaToolCallParser(StepwiseParser):
    """See `gemcut.text.tool_calls.ToolCallParser`; the calls are those that `GemmaToolFormat` describes.

    A call begins at the start of a line, after white space. Arguments in JSON are passed on as they come; Python-style
    calls when they are complete. White space before and after calls belongs to no content.

    Args:
        tools: Only these are called.
    """

    def __init__(self, tools: Sequence[Tool]) -> None:
        super().__init__(self._line_start)
        self._tools = {tool.name: tool for tool in tools}
        self._in_list = False
        self._scanner: JsonObjectScanner | PythonListScanner = JsonObjectScanner()
        self._start = self._searched = 0  # where a Python-style block begins, and up to where it is known not to end

    def finish(self) -> list[str | ToolCallDelta]:
        """See `ToolCallParser.finish`."""
        events = []
        while self._held and self._step in (self._python_list, self._python_fence):
            if self._step == self._python_list or not self._take_python(len(self._held)):
                self._no_call()
            events += self.push("")
        if self._calls.is_empty or not self._held.isspace():
            self._emit(len(self._held))
        return [*events, *self.push("")]

    @property
    def begun_call(self) -> str:
        """See `ToolCallParser.begun_call`; only for calls in JSON."""
        head = _JSON_HEAD.match(self._held) if self._step == self._line_start else None
        is_named = head is not None and head["name"] in self._tools and head.end("name") < len(self._held)
        return self._held.lstrip(_SPACES) if is_named else ""

    def _emit(self, size: int) -> None:
        """The first characters of what is held are content."""
        text, self._held = self._held[:size], self._held[size:]
        if text and self._events and isinstance(self._events[-1], str):
            self._events[-1] += text
        elif text:
            self._events.append(text)

    # Each step below deals with the beginning of what is held, at least one character. False means: wait for more.

    def _line_start(self) -> bool:
        """A call's head, what may become one, or content."""
        may_become = False
        for begin in (self._begin_json, self._begin_python):
            begun = begin()
            if begun:
                return True
            may_become |= begun is None
        if not may_become:
            self._no_call()
        return not may_become

    def _no_call(self) -> None:
        """What is held begins with content, not with a call."""
        run = _RUN.match(self._held)
        self._emit((run.end() if run else 0) + 1)
        self._step = self._within_line

    def _within_line(self) -> bool:
        """Content up to the next line."""
        for run in _RUN.finditer(self._held):
            ends_line, at_end = "\n" in run.group(), run.end() == len(self._held)
            if ends_line or at_end:
                self._emit(run.start())
                self._step = self._line_start if ends_line else self._within_line
                return ends_line
        self._emit(len(self._held))
        return False

    def _begin_json(self, is_further: bool = False) -> bool | None:
        """Whether a JSON call begins here; None if that is still open."""
        head = _JSON_HEAD.match(self._held)
        if head is None or (is_further and (head["fence"] or head["list"])):
            return False
        if head["arguments"] is None:
            keys_fit = any(key.startswith(head["key"]) for key in ARGUMENTS_KEYS)
            return None if keys_fit and self._is_open(head, self._tools) else False
        if head["name"] not in self._tools or head["key"] not in ARGUMENTS_KEYS:
            return False
        self._in_list = is_further or bool(head["list"])
        self._scanner = JsonObjectScanner()
        self._events.append(self._calls.begin(head["name"]))
        self._held = self._held[head.end() :]
        self._step = self._arguments
        return True

    def _begin_python(self) -> bool | None:
        """The same for Python-style calls, in a list or in a fence marked `tool_code` or alike."""
        head = _PYTHON_HEAD.match(self._held)
        if head is None:
            return False
        in_fence = (head["language"] or "").startswith("tool")
        if head["name"] and not (in_fence or head["list"]):
            return False
        names = [*self._tools, "print"] if in_fence else list(self._tools)
        if head["arguments"] is None:
            return None if self._is_open(head, names) else False
        if head["name"] not in names:
            return False
        self._scanner = PythonListScanner()
        self._start = self._searched = head.start("list" if head["list"] else "name")
        self._step = self._python_fence if in_fence else self._python_list
        return True

    def _is_open(self, head: re.Match[str], names: Iterable[str]) -> bool:
        """Whether a head that reaches the end of what is held may still become one that calls one of `names`."""
        if head.end() < len(self._held):
            return False
        name = head["name"] or ""
        if head.end("name") in (-1, len(self._held)):
            return any(known.startswith(name) for known in names)
        return name in names

    def _arguments(self) -> bool:
        """The JSON object of a call's arguments."""
        size = self._scanner.push(self._held)
        if size:
            self._events.append(self._calls.more(self._held[:size]))
            self._held = self._held[size:]
        if self._scanner.is_done:
            self._step = self._call_end
        elif self._scanner.is_broken:
            self._step = self._within_line
        return True

    def _call_end(self) -> bool:
        """The brace after the arguments."""
        return self._expect({"}": self._list_next if self._in_list else self._fence_end})

    def _list_next(self) -> bool:
        """What follows a call in a list."""
        return self._expect({",": self._list_item, "]": self._fence_end})

    def _list_item(self) -> bool:
        """A further call in a list."""
        begun = self._begin_json(is_further=True)
        if begun is False:
            self._step = self._within_line
        return begun is not None

    def _expect(self, steps: Mapping[str, Callable[[], bool]]) -> bool:
        """Skip white space and a character that says which step comes next; any other character is content."""
        self._held = self._held.lstrip(_SPACES)
        if not self._held:
            return False
        self._step = steps.get(self._held[0], self._within_line)
        if self._held[0] in steps:
            self._held = self._held[1:]
        return True

    def _fence_end(self) -> bool:
        """Perhaps a closing fence."""
        rest = self._held.lstrip(_SPACES)
        if rest in ("", "`", "``"):
            return False
        self._held = rest.removeprefix("```")
        self._step = self._call_passed
        return True

    def _call_passed(self) -> bool:
        """White space after a call; then all begins anew."""
        self._held = self._held.lstrip(_SPACES)
        if self._held:
            self._step = self._line_start
        return bool(self._held)

    def _python_list(self) -> bool:
        """A list of Python-style calls, up to its end."""
        self._searched += self._scanner.push(self._held[self._searched : _MAX_PYTHON])
        if self._scanner.is_done and self._take_python(self._searched):
            return True
        gives_up = self._scanner.is_done or self._scanner.is_broken or self._searched == _MAX_PYTHON
        if gives_up:
            self._no_call()
        return gives_up

    def _python_fence(self) -> bool:
        """Python-style calls in a fence, up to its end."""
        end = self._held.find("```", self._searched, _MAX_PYTHON)
        if end >= 0 and self._take_python(end):
            return True
        gives_up = end >= 0 or len(self._held) >= _MAX_PYTHON
        if gives_up:
            self._no_call()
        self._searched = max(self._searched, len(self._held) - 2)
        return gives_up

    def _take_python(self, end: int) -> bool:
        """Make calls of a Python-style block that ends at `end`, if it holds nothing else."""
        calls = python_calls(self._held[self._start : end], self._tools)
        if calls is None:
            return False
        self._events += [self._calls.begin(name, arguments) for name, arguments in calls]
        self._held = self._held[end:]
        self._step = self._fence_end
        return True
