"""Tools in the prompt of a model that reads nothing but text."""

from __future__ import annotations

import json

import pytest

from gemcut.errors import UsageError
from gemcut.text import chat_template_for
from gemcut.text.tool_calls import Tool, ToolCall, parse_tool_calls
from gemcut.text.tool_calls_gemma import GemmaToolFormat

FORM = GemmaToolFormat()
TOOL = Tool("get_weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
USER = {"role": "user", "content": "Weather in Paris?"}


def call(name="get_weather", arguments='{"city": "Paris"}', call_id="c1"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def contents(messages, tools=()):
    turns, for_template = FORM.prompt(messages, tools)
    assert for_template is None
    return [(turn["role"], turn["content"]) for turn in turns]


def test_tools_stand_before_the_first_text_of_the_user():
    system = {"role": "system", "content": "Be brief."}
    (first, second) = contents([system, USER], [TOOL, Tool("f")])
    assert first == ("system", "Be brief.")
    instructions, listed, text = second[1].rsplit("\n", 3)[0], *second[1].rsplit("\n", 3)[1::2]
    assert '{"name": function name, "parameters": ' in instructions
    assert json.loads(listed) == [
        {"name": "get_weather", "description": "The weather.", "parameters": TOOL.parameters},
        {"name": "f", "description": "", "parameters": {"type": "object"}},
    ]
    assert text == "Weather in Paris?"


def test_without_a_user_the_tools_are_a_turn_of_their_own():
    assert [role for role, _ in contents([{"role": "assistant", "content": "Hi."}], [TOOL])] == ["assistant", "user"]


def test_messages_without_tools_stay():
    messages = [USER, {"role": "assistant", "content": "22.", "name": "x"}, USER, USER]
    assert FORM.prompt(messages, [])[0] == messages


def test_calls_and_results_are_text_in_turns_that_alternate(gemma):
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call(), call("f", "", "c2")]},
        {
            "role": "tool",
            "tool_call_id": "c1",
            "content": [{"type": "text", "text": "22 "}, {"type": "text", "text": "C"}],
        },
        {"role": "tool", "tool_call_id": "c2", "content": "null"},
        {"role": "user", "content": "And Rome?"},
        {"role": "assistant", "content": "I look.", "tool_calls": [call(arguments='{"city":"Rome"}', call_id="c3")]},
        {"role": "tool", "tool_call_id": "unknown", "content": "25"},
        {"role": "assistant", "content": "25."},
        {"role": "user", "content": "Thanks."},
    ]
    first = '{"name": "get_weather", "parameters": {"city": "Paris"}}'
    assert contents(messages) == [
        ("user", "Weather in Paris?"),
        ("assistant", f'[{first}, {{"name": "f", "parameters": {{}}}}]'),
        ("user", "```tool_output\nget_weather: 22 C\n```\n\n```tool_output\nf: null\n```\n\nAnd Rome?"),
        ("assistant", 'I look.\n{"name": "get_weather", "parameters": {"city":"Rome"}}'),
        ("user", "```tool_output\n25\n```"),
        ("assistant", "25."),
        ("user", "Thanks."),
    ]
    for model_type in ("gemma", "gemma3"):
        assert chat_template_for(gemma, model_type, where="x").encode(FORM.prompt(messages, [TOOL])[0])


def test_a_call_that_was_read_is_written_as_it_was():
    text = 'I look.\n[{"name": "get_weather", "parameters": {"city":"Zürich"}}, {"name": "f", "parameters": {}}]'
    content, calls = parse_tool_calls(FORM.parser([TOOL, Tool("f")]), text)
    message = {"role": "assistant", "content": content}
    message["tool_calls"] = [call(each.name, each.arguments, each.id) for each in calls]
    assert contents([message]) == [("assistant", text)]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("x", r"messages\[1\]: found 'x'"),
        ({"role": "tool", "content": 5}, r"messages\[1\]: content is a int"),
        ({"role": "tool", "content": [{"type": "image"}]}, r"messages\[1\]: a content part is of type 'image'"),
        (
            {"role": "assistant", "tool_calls": [call(arguments="nope")]},
            r"messages\[1\]: tool call .* is not understood",
        ),
    ],
)
def test_messages_of_another_form_are_refused(message, error):
    with pytest.raises(UsageError, match=error):
        FORM.prompt([USER, message], [TOOL])


def test_calls_are_of_the_given_tools_only():
    for text in ('{"name": "other", "parameters": {}}', "[other(a=1)]", '[{"name": "f", "parameters": {}}]'):
        assert parse_tool_calls(FORM.parser([TOOL]), text) == (text, [])
    text = '[{"name": "get_weather", "parameters": {}}, {"name": "other", "parameters": {}}]'
    content, calls = parse_tool_calls(FORM.parser([TOOL]), text)
    assert calls == [ToolCall("get_weather", "{}")]
    assert content.strip() == '{"name": "other", "parameters": {}}]'
