"""Calls written as Python code, read without running it."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping
from typing import Any

from gemcut.text.tool_calls import Tool

_CLOSING = {"(": ")", "[": "]", "{": "}"}
_MAX_DEPTH = 50
_WORDS = {"true": True, "false": False, "null": None}  # JSON's, in the midst of Python


class PythonListScanner:
    """Follows one Python list, character by character, and stops where it ends or is none any more.

    Attributes:
        is_done: The list has ended.
        is_broken: Brackets do not match, a string is not closed in its line, or there are more than 50 levels.
    """

    def __init__(self) -> None:
        self.is_done = self.is_broken = False
        self._open: list[str] = []
        self._quote = ""
        self._is_escaped = False

    def push(self, text: str) -> int:
        """How many characters of `text` belong to the list; fewer than all where it is done or broken."""
        for position, character in enumerate(text):
            if self.is_done or not self._take(character):
                return position
        return len(text)

    def _take(self, character: str) -> bool:
        if self._quote:
            if self._is_escaped:
                self._is_escaped = False
            elif character == "\\":
                self._is_escaped = True
            elif character == self._quote:
                self._quote = ""
            elif character == "\n":
                self.is_broken = True
        elif character in "\"'":
            self._quote = character
        elif character in _CLOSING:
            self._open.append(_CLOSING[character])
            self.is_broken = len(self._open) > _MAX_DEPTH
        elif character in ")]}":
            self.is_broken = not self._open or self._open.pop() != character
            self.is_done = not self.is_broken and not self._open
        return not self.is_broken


def python_calls(source: str, tools: Mapping[str, Tool]) -> list[tuple[str, str]] | None:
    """Name and arguments (JSON text) of calls such as `[f(a=1), g("x")]`, or one a line, perhaps inside print().

    Arguments without a name take the parameters' names in the order of the tool's schema.

    Returns:
        None if the text holds anything else than calls of `tools` with literal values.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # about escapes that Python does not know
            body = ast.parse(source.strip()).body
        nodes = [node for statement in body for node in _listed(statement)]
        return [_call(node, tools) for node in nodes] or None
    except (SyntaxError, ValueError, TypeError, KeyError, RecursionError, MemoryError):
        return None


def _listed(statement: ast.stmt) -> list[ast.expr]:
    """The calls of a statement."""
    if not isinstance(statement, ast.Expr):
        raise ValueError
    value = statement.value
    nodes = value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
    return [argument for node in nodes for argument in _printed(node)]


def _printed(node: ast.expr) -> list[ast.expr]:
    """What a print() prints, or the expression itself."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
        return node.args
    return [node]


def _call(node: ast.expr, tools: Mapping[str, Tool]) -> tuple[str, str]:
    """The one call that a node is."""
    if not isinstance(node, ast.Call):
        raise ValueError
    name = ast.unparse(node.func)
    names = list((tools[name].parameters or {}).get("properties", {}))
    if len(node.args) > len(names):
        raise ValueError
    arguments: dict[str, Any] = {key: _value(value) for key, value in zip(names, node.args, strict=False)}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in arguments:
            raise ValueError
        arguments[keyword.arg] = _value(keyword.value)
    return name, json.dumps(arguments, ensure_ascii=False, allow_nan=False)


def _value(node: ast.expr) -> Any:
    """The value of a literal."""
    if isinstance(node, ast.Name):
        return _WORDS[node.id]
    if isinstance(node, ast.List):
        return [_value(entry) for entry in node.elts]
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(key or node): _value(value) for key, value in zip(node.keys, node.values, strict=True)}
    return ast.literal_eval(node)
