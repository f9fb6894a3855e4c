"""Sizes of C++ sources: lines of a file and of each function, parameters of each function.

Functions are found by their braces, as the code is formatted here: a brace that opens after a parameter list, in a
namespace or a class, begins a function. Blank lines do not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

SUFFIXES = (".cc", ".h", ".inl")
_NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
_RAW_STRING = re.compile(r'R"(\w*)\(.*?\)\1"', re.DOTALL)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
_SCOPE = re.compile(r"\b(namespace|class|struct|union|enum)\b|extern\s")
_NAME = re.compile(r"([~\w:]+)\s*\(")


def functions(source: str) -> Iterator[tuple[int, str, int, int]]:
    """(first line, name, lines of the body, number of parameters) of each function in a C++ source."""
    code = _blanked(source)
    scopes: list[tuple[str, int]] = []  # what each open brace belongs to, and where its heading begins
    heading_start = 0
    for match in re.finditer(r"[{};]", code):
        position = match.start()
        if match.group() == "{":
            heading = code[heading_start:position]
            scopes.append((_kind(heading, [kind for kind, _ in scopes]), heading_start))
            heading_start = position + 1
        elif match.group() == "}" and scopes:
            kind, start = scopes.pop()
            if kind == "function":
                body_start = code.index("{", start + len(_heading(code, start)))
                yield _described(code, source, start, body_start, position)
            heading_start = position + 1
        elif not any(kind == "function" for kind, _ in scopes):
            heading_start = position + 1


def _heading(code: str, start: int) -> str:
    """The text from `start` to the brace that opens the body, braces of default arguments stepped over."""
    depth = 0
    for offset, letter in enumerate(code[start:]):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "{" and not depth:
            return code[start : start + offset]
    return code[start:]


def _kind(heading: str, outer: list[str]) -> str:
    """What a brace opens: "scope", "function", or "block" for anything inside a function or an initialiser."""
    if any(kind != "scope" for kind in outer):
        return "block"
    if "(" in heading and heading.count("(") == heading.count(")") and not heading.rstrip().endswith("="):
        return "function"
    return "scope" if _SCOPE.search(heading) else "block"


def _described(code: str, source: str, start: int, body_start: int, end: int) -> tuple[int, str, int, int]:
    heading = code[start:body_start]
    name = _NAME.search(heading)
    first_line = code.count("\n", 0, start + len(heading) - len(heading.lstrip())) + 1
    body = source[body_start + 1 : end]
    num_lines = sum(bool(line.strip()) for line in body.splitlines())
    return first_line, name.group(1) if name else "?", num_lines, _num_parameters(heading[name.end() :] if name else "")


def _num_parameters(rest: str) -> int:
    """Parameters in a list that has just been opened."""
    depth, count, seen = 1, 0, False
    for letter in rest:
        if letter in "([{<":
            depth += 1
        elif letter in ")]}>":
            depth -= 1
            if not depth:
                break
        elif letter == "," and depth == 1:
            count += 1
        seen = seen or not letter.isspace()
    return count + 1 if seen else 0


def _blanked(source: str) -> str:
    """The source with comments, texts and preprocessor lines as spaces, every character in its place."""

    def spaces(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match.group())

    for pattern in (_RAW_STRING, _NOT_CODE, _DIRECTIVE):
        source = pattern.sub(spaces, source)
    return source
