"""The tools of a chat request: in the prompt, in the constraint, and in the answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from gemcut.generate.constraints import GrammarCompiler
from gemcut.interfaces import Constraint
from gemcut.text.tool_calls import Tool, ToolCallParser, ToolFormat, choose_tools, read_tools


@dataclasses.dataclass(frozen=True)
class ToolUse:
    """What a request may do with tools.

    Attributes:
        format: How the model is told of tools and calls them.
        tools: All that the request describes.
        callable_tools: Those that the answer may call; perhaps none.
        is_required: The answer is a call.
        is_parallel: There may be several calls.
    """

    format: ToolFormat
    tools: tuple[Tool, ...]
    callable_tools: tuple[Tool, ...]
    is_required: bool
    is_parallel: bool

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
        """Messages and tools as the chat template takes them; a request that must not call is told of no tools."""
        return self.format.prompt(messages, self.tools if self.callable_tools else ())

    def constraint(self, compiler: GrammarCompiler) -> Constraint:
        """What the answer must obey, so that its calls can be read."""
        return compiler.tool_calls(
            self.callable_tools, self.format, is_required=self.is_required, is_parallel=self.is_parallel
        )

    def parser(self) -> ToolCallParser | None:
        """Reads the calls of one answer; None where there can be none."""
        return self.format.parser(self.callable_tools) if self.callable_tools else None


def tool_use_of(tools: Any, tool_choice: Any, is_parallel: bool | None, tool_format: ToolFormat) -> ToolUse:
    """The tools of a request, checked.

    Raises:
        UsageError: a tool is not described as it should be, or the choice is not among them.
    """
    described = read_tools(tools)
    callable_tools, is_required = choose_tools(described, tool_choice)
    return ToolUse(tool_format, described, callable_tools, is_required, is_parallel is not False)
