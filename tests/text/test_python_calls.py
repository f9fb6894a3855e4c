"""Python calls are read, never run."""

from __future__ import annotations

import pytest

from gemcut.text.python_calls import PythonListScanner, python_calls
from gemcut.text.tool_calls import Tool

TOOLS = {"f": Tool("f", parameters={"properties": {"x": {}, "y": {}}}), "a.b": Tool("a.b")}


@pytest.mark.parametrize(
    ("source", "calls"),
    [
        ("f()", [("f", "{}")]),
        (" [f(1, y='ü'), a.b(z=[None, true])] ", [("f", '{"x": 1, "y": "ü"}'), ("a.b", '{"z": [null, true]}')]),
        ("f(x=(1, 2))\nf(y={'k': -3, 4: false})", [("f", '{"x": [1, 2]}'), ("f", '{"y": {"k": -3, "4": false}}')]),
        ("print(f(), f(x='a' 'b'))", [("f", "{}"), ("f", '{"x": "ab"}')]),
        (r"f(x='\d')", [("f", r'{"x": "\\d"}')]),
    ],
)
def test_calls(source, calls):
    assert python_calls(source, TOOLS) == calls


@pytest.mark.parametrize(
    "source",
    ["", "5", "f", "g()", "f(", "f(1, 2, 3)", "f(1, x=2)", "f(*a)", "f(**a)", "f(x=y)", "f(x=f())", "f(x=1j)", "f(x={1})",
     "f(x=1e999)", "f(x={**{}})", "f(x=...)", "x = f()", "f().g()", "f(x=\x00)", "f(x='\ud800'", "(" * 5000, "f(x=" + "-" * 50_000 + "1)",
     "import os", "f(x=__import__('os'))", "f(x=[y for y in 'a'])", "f(x=f'{1}')"],
)  # fmt: skip
def test_all_else_is_none(source):
    assert python_calls(source, TOOLS) is None


@pytest.mark.parametrize(
    ("text", "size", "is_done"),
    [
        ("[f(a=[1, 2])] x", 13, True),
        ("[f(']', \"]\", '\\']')]", 20, True),
        ("[f(", 3, False),
        ("[f)", 2, False),
        ("['a\n']", 3, False),
        ("[" * 60, 50, False),
    ],
)
def test_a_list_ends_at_its_bracket(text, size, is_done):
    scanner = PythonListScanner()
    assert (scanner.push(text), scanner.is_done) == (size, is_done)
    assert scanner.is_broken == (size < len(text) and not is_done)
