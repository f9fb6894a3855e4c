"""Where calls begin and end in a text, and what is no call."""

from __future__ import annotations

import json
import time

import pytest

from gemcut.text.tool_calls import Tool, gather, parse_tool_calls
from gemcut.text.tool_calls_gemma_parser import GemmaToolCallParser

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS = [Tool("get_weather", parameters=PARAMETERS), Tool("f"), Tool("ns.g")]


def read(text):
    """Content and (name, arguments) of calls, the same for the whole text and for one character after another."""
    content, calls = parse_tool_calls(GemmaToolCallParser(TOOLS), text)
    parser, events = GemmaToolCallParser(TOOLS), []
    for character in text:
        events += parser.push(character)
    assert gather([*events, *parser.finish()]) == (content, calls)
    return content, [(call.name, call.arguments) for call in calls]


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ('[get_weather(city="Paris", days=3)]', "", [("get_weather", {"city": "Paris", "days": 3})]),
        ("[get_weather('Rome', 2), f()]", "", [("get_weather", {"city": "Rome", "days": 2}), ("f", {})]),
        ("Sure:\n\n[ f(a=[1, 'x]', {'b': (2, 3)}],\n   b=None) ]\nDone.", "Sure:Done.",
         [("f", {"a": [1, "x]", {"b": [2, 3]}], "b": None})]),
        ("```tool_code\nget_weather(city='Paris')\n```", "", [("get_weather", {"city": "Paris"})]),
        ("```tool_code\nprint(f(a=-1.5))\nns.g(x=true)\n```\nok", "ok", [("f", {"a": -1.5}), ("ns.g", {"x": True})]),
        ("```tool_code\n[f(a=1)]\n```", "", [("f", {"a": 1})]),
        ("```tool_call\nf(a=1)", "", [("f", {"a": 1})]),
        ("```json\n[f(a=1)]\n```", "", [("f", {"a": 1})]),
        ('```tool_code\n{"name": "f", "parameters": {"a": 1}}\n```', "", [("f", {"a": 1})]),
        ('{"name": "f", "parameters": {}}\n{"name": "f", "arguments": {"a": 1}}', "", [("f", {}), ("f", {"a": 1})]),
        ('{ "name" :\n"f" , "parameters"\t:  {"a" : 1} }', "", [("f", {"a": 1})]),
        ('x\n{"name": "f", "parameters": {}} and\n{"name": "f", "parameters": {}}', "xand", [("f", {}), ("f", {})]),
    ],
)  # fmt: skip
def test_calls(text, content, calls):
    found, read_calls = read(text)
    assert (found, [(name, json.loads(arguments)) for name, arguments in read_calls]) == (content, calls)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t ",
        "Hello there.\n\nHow are you?  \n",
        "f(a=1)",
        "Call [f(a=1)] in a line",
        "[f(a=1)",
        "[f(a=1",
        "[f(a=b)]",
        "[f(**x)]",
        "[f(a=1, a=2)]",
        "[f(1, 2, 3)]",
        "[f(a=lambda: 1)]",
        "[f(a=1e999)]",
        "[f(a=b'x')]",
        "[f(a={1, 2})]",
        "[f(a='\n')]",
        "[f(a=1)(b=2)]",
        "[f(] x",
        "[other(a=1)]",
        "[f]",
        "[1, 2]",
        "```python\nf(a=1)\n```",
        "```tool_code\nx = f(a=1)\n```",
        "```tool_code\nother()\n```",
        "```tool_code\nimport os\n```\nok",
        "```",
        "``` \n{",
        "[f(a=" + "[" * 100,
        '{"name": "f"}',
        '{"name": "f", "parameters": 1}',
        '{"name": "f", "parameters": [1]}',
        '{"name": "f", "value": {}}',
        '{"name": "other", "parameters": {}}',
        '{"name": "f\\u0041", "parameters": {}}',
        '{"parameters": {}, "name": "f"}',
        'so {"name": "f", "parameters": {}}',
        '{     "name": "f", "parameters": {}}',
    ],
)
def test_what_is_no_call_is_content(text):
    assert read(text) == (text, [])


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ('{"name": "f", "parameters": {"a": "brok', "", [("f", '{"a": "brok')]),
        ('{"name": "f", "parameters": {"a": 1}', "", [("f", '{"a": 1}')]),
        ('{"name": "f", "parameters": {"a": 1}} ', "", [("f", '{"a": 1}')]),
        ('{"name": "f", "parameters": {"a": 01}}', "}}", [("f", '{"a": 01')]),
        ('{"name": "f", "parameters": {}, "x": 1}', ', "x": 1}', [("f", "{}")]),
        ('[{"name": "f", "parameters": {}}; x', "; x", [("f", "{}")]),
        ('[{"name": "f", "parameters": {}}, {"na', ' {"na', [("f", "{}")]),
        ('[{"name": "f", "parameters": {}}, 5]', " 5]", [("f", "{}")]),
    ],
)
def test_what_breaks_off_stays_as_far_as_it_came(text, content, calls):
    assert read(text) == (content, calls)


def test_content_comes_as_soon_as_it_is_certain():
    parser = GemmaToolCallParser(TOOLS)
    assert parser.push("Hello wor") == ["Hello wor"]
    assert parser.push("ld. ") == ["ld."]
    assert parser.push("\n\n{") == []
    assert parser.push('"x') == [' \n\n{"x']


def test_arguments_come_as_they_are_written():
    parser = GemmaToolCallParser(TOOLS)
    assert parser.push('{"name": "f", "parameters"') == []
    assert parser.begun_call == '{"name": "f", "parameters"'
    (begun, first) = parser.push(': {"a": "lo')
    assert (begun.name, begun.arguments, first.arguments) == ("f", "", '{"a": "lo')
    assert parser.begun_call == ""
    assert [event.arguments for event in parser.push("ng")] == ["ng"]


@pytest.mark.parametrize(
    ("text", "begun"),
    [("", ""), ('{"name": "f', ""), ('{"name": "g"', ""), ('{"name": "f"', '{"name": "f"'), ('{"name": "f", "x', ""),
     ('Hi.\n ```json\n[{"name": "f" ', '```json\n[{"name": "f" '), ("[f(", "")],
)  # fmt: skip
def test_a_call_has_begun_when_its_function_is_known(text, begun):
    parser = GemmaToolCallParser(TOOLS)
    parser.push(text)
    assert parser.begun_call == begun


@pytest.mark.parametrize(
    "line", ["[f(", "[f(]", "[f('", "```tool_code\nf(", "{", '{"name": "f"', " " * 200, "[" * 40 + "\n", "[f(a=[[[[\n"]
)
def test_many_lines_that_nearly_call_cost_little(line):
    text = "\n".join([line] * (12_000 // len(line)))
    begin = time.process_time()
    content, calls = parse_tool_calls(GemmaToolCallParser(TOOLS), text)
    parser = GemmaToolCallParser(TOOLS)
    for start in range(0, len(text), 4):
        parser.push(text[start : start + 4])
    assert (content, calls) == (text, [])
    assert time.process_time() - begin < 3
