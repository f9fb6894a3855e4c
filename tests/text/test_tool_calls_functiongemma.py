"""FunctionGemma's calls, and its prompts with tools."""

from __future__ import annotations

import json

import pytest

from gemcut.text.tool_calls import Tool, gather, parse_tool_calls
from gemcut.text.tool_calls_functiongemma import BEGIN, END, ESCAPE, FunctionGemmaToolFormat

FORM = FunctionGemmaToolFormat()
TOOLS = [Tool("f", "Does.", {"type": "object", "properties": {"a": {"type": "string"}}}), Tool("g")]


def read(text):
    content, calls = parse_tool_calls(FORM.parser(TOOLS), text)
    parser, events = FORM.parser(TOOLS), []
    for character in text:
        events += parser.push(character)
    assert gather([*events, *parser.finish()]) == (content, calls)
    return content, [(call.name, call.arguments) for call in calls]


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (f"{BEGIN}call:f{{a:{ESCAPE}x{ESCAPE},b:1}}{END}", "", [("f", '{"a": "x", "b": 1}')]),
        (
            f"{BEGIN} call:f{{ a : {ESCAPE}<b>{ESCAPE} , c : [ 1 , true ] }}{END}",
            "",
            [("f", '{"a": "<b>", "c": [1, true]}')],
        ),
        (f"Hi{BEGIN}call:f{{}}{END}{BEGIN}call:g{{}}{END}", "Hi", [("f", "{}"), ("g", "{}")]),
        (f"{BEGIN}call:f{{a:plain words,b:01}}{END}", "", [("f", '{"a": "plain words", "b": "01"}')]),
        (f"{BEGIN}call:f{{a:{{b:{{}},c:[]}}}}{END}!", "!", [("f", '{"a": {"b": {}, "c": []}}')]),
        (f"{BEGIN}call:f{{}}x", "x", [("f", "{}")]),
        (f"{BEGIN}call:f{{a:1", "", [("f", '{"a": ')]),
        (f"{BEGIN}call:f{{a:{ESCAPE}cut", "", [("f", '{"a": "cut')]),
        (f"{BEGIN}call:f{{a:{ESCAPE}x{ESCAPE}b}}", "b}", [("f", '{"a": "x"')]),
        (f"{BEGIN}call:f{{:1}}", ":1}", [("f", "{")]),
        (f"{BEGIN}call:f{{a:}}", "}", [("f", '{"a": ')]),
        (f"{BEGIN}call:f{{a:[1}}", "}", [("f", '{"a": [1')]),
        (f"{BEGIN}call:f{{a:1,}}", "}", [("f", '{"a": 1, ')]),
        (f"{BEGIN}call:other{{}}{END}", "call:other{}", []),
        (f"{BEGIN}hello{END}{ESCAPE}.", "hello.", []),
        (f"{BEGIN}call:{'x' * 300}", f"call:{'x' * 300}", []),
        (f"{BEGIN}call:f", "call:f", []),
        ("a <b> <start_of <", "a <b> <start_of <", []),
    ],
)
def test_calls(text, content, calls):
    assert read(text) == (content, calls)


def test_nesting_has_an_end():
    content, calls = read(f"{BEGIN}call:f{{a:{'[' * 200}")
    assert len(content) + len(calls[0][1]) == len('{"a": ') + 200


def test_arguments_come_as_they_are_written():
    parser = FORM.parser(TOOLS)
    assert parser.push(f"Hi {BEGIN}") == ["Hi "]
    assert parser.begun_call == BEGIN
    assert parser.push("call:f") == []
    assert parser.begun_call == f"{BEGIN}call:f"
    begun, *rest = parser.push(f"{{a:{ESCAPE}lo")
    assert (begun.name, begun.arguments + "".join(event.arguments for event in rest)) == ("f", '{"a": "lo')
    assert parser.begun_call == ""
    assert [event.arguments for event in parser.push("ng <esc")] == ["ng "]


def test_results_bear_the_names_of_their_functions():
    call = {"id": "c1", "function": {"name": "f", "arguments": '{"a": "x"}'}}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c1", "name": "own", "content": "2"},
        {"role": "tool", "tool_call_id": "c2", "content": "3"},
    ]
    turns, tools = FORM.prompt(messages, TOOLS)
    assert [turn.get("name") for turn in turns] == [None, None, "f", "own", ""]
    assert turns[:2] == messages[:2]
    assert tools == [
        {"type": "function", "function": {"name": "f", "description": "Does.", "parameters": TOOLS[0].parameters}},
        {"type": "function", "function": {"name": "g", "description": "", "parameters": {}}},
    ]
    assert FORM.prompt(messages, [])[1] is None


def test_a_string_is_escaped_piece_by_piece():
    text = 'a"b\\c\n\u0000🙂'
    (_, [(_, arguments)]) = read(f"{BEGIN}call:f{{a:{ESCAPE}{text}{ESCAPE}}}{END}")
    assert json.loads(arguments) == {"a": text}
