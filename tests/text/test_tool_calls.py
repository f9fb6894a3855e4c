"""Calls in an answer: 100 of them in each form that a format has, whole and in pieces, and any text at all."""

from __future__ import annotations

import itertools
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemcut.errors import UsageError
from gemcut.text.tool_calls import (
    MAX_TOOLS,
    Tool,
    ToolCall,
    choose_tools,
    gather,
    message_calls,
    parse_tool_calls,
    read_tools,
    tool_names,
)
from gemcut.text.tool_calls_functiongemma import BEGIN, END, ESCAPE, FunctionGemmaToolFormat
from gemcut.text.tool_calls_gemma import GemmaToolFormat

TOOLS = (
    Tool("get_weather", parameters={"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}),
    Tool("f"),
    Tool("server.list-files:v2/x"),
)
ARGUMENTS = [
    {},
    {"city": "Paris"},
    {"city": "Paris", "days": 3},
    {"city": ""},
    {"city": 'say "hi"'},
    {"city": "back\\slash and /"},
    {"city": "two\nlines\ttab"},
    {"city": "braces } ] { [ , :"},
    {"city": '{"name": "f", "parameters": {}}'},
    {"city": "```\nfence"},
    {"city": "Zürich 東京 🙂 \u0000"},
    {"city": "[f(a=1)]"},
    {"a": True, "b": False, "c": None},
    {"a": 0, "b": -1, "c": 2.5, "d": 1e300, "e": -1.5e-7},
    {"a": []},
    {"a": [1, "two", [3, []], {}]},
    {"a": {"b": {"c": {"d": [{"e": "f"}]}}}},
    {"a": [{"x": 1}, {"x": 2}], "b": {}},
    {"key with spaces": 1, "city's": "it's"},
    {"long": "word " * 300},
]


def gemma_call(name, arguments, key="parameters"):
    return f'{{"name": "{name}", "{key}": {json.dumps(arguments, ensure_ascii=False)}}}'


def function_gemma_value(value):
    if isinstance(value, str):
        return f"{ESCAPE}{value}{ESCAPE}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{function_gemma_value(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(function_gemma_value, value)) + "]"
    return json.dumps(value)


def function_gemma_call(name, arguments):
    return f"{BEGIN}call:{name}{function_gemma_value(arguments)}{END}"


WRITTEN = {
    "object": ("", lambda a: gemma_call("f", a), 1),
    "fence": ("", lambda a: f"```json\n{gemma_call('f', a)}\n```", 1),
    "after text": ("I look.", lambda a: f"I look.\n\n{gemma_call('f', a, 'arguments')}\n", 1),
    "list": ("", lambda a: f" [{gemma_call('f', a)}, {gemma_call('get_weather', a)} ]", 2),
    "other spacing": ("", lambda a: json.dumps({"name": "f", "parameters": a}, separators=(",", ":")), 1),
}
GEMMA = [
    pytest.param(GemmaToolFormat(), write(arguments), content, [arguments] * count, id=f"gemma, {name}, {index}")
    for (index, arguments), (name, (content, write, count)) in itertools.product(enumerate(ARGUMENTS), WRITTEN.items())
]
FUNCTION_GEMMA = [
    pytest.param(
        FunctionGemmaToolFormat(),
        lead + function_gemma_call("f", arguments) * count,
        lead,
        [arguments] * count,
        id=f"functiongemma, {name}, {index}",
    )
    for (index, arguments), (name, lead, count) in itertools.product(
        enumerate(ARGUMENTS),
        [
            ("alone", "", 1),
            ("after text", "I look.\n", 1),
            ("two", "", 2),
            ("after a sign", "a < b <", 1),
            ("three", "x", 3),
        ],
    )
]


def in_pieces(form, text, sizes, tools=TOOLS):
    parser, events, start = form.parser(tools), [], 0
    for size in sizes:
        events += parser.push(text[start : start + size])
        start += size
    return gather([*events, *parser.push(text[start:]), *parser.finish()])


def check_pieces(form, text, tools=TOOLS):
    """The whole, which any pieces add up to."""
    whole = parse_tool_calls(form.parser(tools), text)
    assert in_pieces(form, text, [1] * len(text), tools) == whole
    for seed in range(2):
        rng = random.Random(seed)
        sizes = [rng.randrange(8) for _ in range(len(text) // 3)]
        assert in_pieces(form, text, sizes, tools) == whole
    return whole


@pytest.mark.parametrize(("form", "text", "content", "expected"), [*GEMMA, *FUNCTION_GEMMA])
def test_calls(form, text, content, expected):
    found, calls = check_pieces(form, text)
    assert found == content
    assert [json.loads(call.arguments) for call in calls] == expected
    assert {call.name for call in calls} <= {"f", "get_weather"}


PARTS = [
    "", " ", "\n", "a", "Hi.", "{", "}", "[", "]", "(", ")", ",", ":", '"', "'", "\\", "```", "`", "json\n", "tool_code\n",
    '{"name": "f", "parameters": ', '"name"', '"f"', '"parameters"', "f(", "get_weather(", "print(", "a=1", "1", "-", "tru",
    "null", '"x"', "u12", BEGIN, END, ESCAPE, "call:f{", "call:g{", "<", "<esc", "a:", "\x00", "é", "🙂",
]  # fmt: skip


@pytest.mark.parametrize("form", [GemmaToolFormat(), FunctionGemmaToolFormat()], ids=lambda form: form.name)
@given(parts=st.lists(st.sampled_from(PARTS), max_size=25), sizes=st.lists(st.integers(0, 9), max_size=40))
def test_any_text_in_any_pieces_gives_content_and_calls(form, parts, sizes):
    text = "".join(parts)
    whole = parse_tool_calls(form.parser(TOOLS), text)
    assert in_pieces(form, text, sizes) == whole
    content, calls = whole
    assert all(call.name in ("f", "get_weather") for call in calls)
    assert len(content) <= len(text)
    if not calls and form.name == "gemma":
        assert content == text


@pytest.mark.parametrize("form", [GemmaToolFormat(), FunctionGemmaToolFormat()], ids=lambda form: form.name)
def test_names_with_signs_are_read(form):
    text = {"gemma": gemma_call, "functiongemma": function_gemma_call}[form.name](TOOLS[2].name, {"a": "b"})
    assert check_pieces(form, text)[1] == [ToolCall(TOOLS[2].name, '{"a": "b"}')]


def test_deltas_begin_with_name_and_id():
    parser = GemmaToolFormat().parser(TOOLS)
    events = []
    for character in f"[{gemma_call('f', {'a': 12})}, {gemma_call('f', {})}]":
        events += parser.push(character)
    events += parser.finish()
    assert [(event.index, event.name) for event in events if event.name] == [(0, "f"), (1, "f")]
    assert [event.id is None for event in events] == [event.name is None for event in events]
    assert len({event.id for event in events if event.id}) == 2
    assert [event.arguments for event in events if event.index == 0] == ["", *'{"a": 12}']


def described(name="f", **more):
    return {"type": "function", "function": {"name": name, **more}}


def test_tools_are_read():
    parameters = {"type": "object", "properties": {"a": {}}}
    tools = read_tools([described("f", description="Does.", parameters=parameters, strict=True), described("g")])
    assert tools == (Tool("f", "Does.", parameters, True), Tool("g"))
    assert tools[0].arguments_schema == parameters | {"additionalProperties": False}
    assert tools[1].arguments_schema == {"type": "object", "properties": {}, "additionalProperties": False}
    assert Tool("h", parameters={"type": "object"}).arguments_schema == {"type": "object"}
    assert read_tools(None) == read_tools([]) == ()


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ("f", "tools: found a str, expected a list"),
        ([described()] * (MAX_TOOLS + 1), "tools: found 129, expected at most 128"),
        (["f"], r"tools\[0\]: found 'f', expected"),
        ([{"type": "custom", "custom": {}}], r"tools\[0\]: found .*custom"),
        ([{"type": "custom", "function": {"name": "f"}}], r"tools\[0\]: found .*custom"),
        ([described("")], r"tools\[0\]: name is ''"),
        ([described("a b")], r"tools\[0\]: name is 'a b'"),
        ([described(None)], r"tools\[0\]: name is None"),
        ([described("x" * 129)], r"tools\[0\]: name is 'xxx"),
        ([described(), described()], r"tools\[1\]: the name 'f' is there twice"),
        ([described(parameters=[])], r"tools\[0\]: parameters is \[\], expected a JSON schema"),
        ([described(parameters={"type": "string"})], r"tools\[0\]: parameters is .*string"),
    ],
)
def test_tools_of_another_form_are_refused(tools, message):
    with pytest.raises(UsageError, match=message):
        read_tools(tools)


@pytest.mark.parametrize(
    ("choice", "names", "is_required"),
    [
        (None, ["f", "g"], False),
        ("auto", ["f", "g"], False),
        ("none", [], False),
        ("required", ["f", "g"], True),
        ({"type": "function", "function": {"name": "g"}}, ["g"], True),
    ],
    ids=["not given", "auto", "none", "required", "one of them"],
)
def test_choices(choice, names, is_required):
    chosen, required = choose_tools((Tool("f"), Tool("g")), choice)
    assert ([tool.name for tool in chosen], required) == (names, is_required)


@pytest.mark.parametrize(
    ("tools", "choice", "message"),
    [
        ((), "required", 'tool_choice: it is "required", but there are no tools'),
        ((Tool("f"),), "any", "tool_choice: found 'any', expected"),
        ((Tool("f"),), {"type": "allowed_tools"}, "tool_choice: found .*allowed_tools"),
        (
            (Tool("f"),),
            {"type": "function", "function": {"name": "g"}},
            "tool_choice: 'g' is no tool, expected one of .*f",
        ),
    ],
)
def test_choices_of_another_form_are_refused(tools, choice, message):
    with pytest.raises(UsageError, match=message):
        choose_tools(tools, choice)


def test_calls_of_a_message():
    function = {"name": "f", "arguments": '{ "a":1 }'}
    calls = [{"id": "x", "function": function}, {"function": {"name": "g", "arguments": {"é": 1}}}]
    message = {"role": "assistant", "tool_calls": calls}
    assert message_calls(message, "messages[0]") == [("f", '{ "a":1 }'), ("g", '{"é": 1}')]
    assert tool_names([message, {"role": "user", "content": ""}]) == {"x": "f"}
    with pytest.raises(UsageError, match=r"messages\[3\]: tool call .* has no name"):
        message_calls({"tool_calls": [{"function": {"arguments": "{}"}}]}, "messages[3]")
    with pytest.raises(UsageError, match=r"messages\[0\]: tool call .* is not understood"):
        tool_names([{"tool_calls": [{"function": {"name": "f", "arguments": "[" * 5000}}]}])
