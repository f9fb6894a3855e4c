"""What columns mean: formats found and asked for, mappings, and records that are not as they should be."""

from __future__ import annotations

import pytest

from gemcut.errors import DataError, UsageError
from gemcut.tune.record_formats import Conversation, Pair, PlainText, detect
from gemcut.tune.records import Record

USER, MODEL = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
FOUND = {
    "messages": ({"messages": [USER, MODEL]}, "messages"),
    "conversations with roles": ({"conversations": [USER, MODEL]}, "messages: messages = 'conversations'"),
    "sharegpt": ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, "sharegpt"),
    "alpaca": ({"instruction": "Say", "input": "Hi", "output": "Hello"}, "alpaca"),
    "alpaca without input": ({"instruction": "Say", "output": "Hello"}, "alpaca"),
    "prompt": ({"prompt": "Hi", "completion": "Hello"}, "prompt-completion"),
    "response": ({"prompt": "Hi", "response": "Hello"}, "prompt-completion: completion = 'response'"),
    "question": ({"question": "Hi", "answer": "x"}, "prompt-completion: prompt = 'question', completion = 'answer'"),
    "prompts of messages": ({"prompt": [USER], "completion": [MODEL]}, "prompt-completion"),
    "text": ({"text": "Hello", "id": 3}, "text"),
    "messages come first": ({"prompt": "Hi", "prompt_id": "7", "messages": [USER, MODEL]}, "messages"),
}


def record(values: dict, line: int = 1) -> Record:
    return Record(values, f"data.jsonl, line {line}")


def example(values: dict, mapping: dict | None = None, asked: str = "auto"):
    return detect(record(values), asked, mapping).example(record(values))


@pytest.mark.parametrize(("values", "words"), FOUND.values(), ids=list(FOUND))
def test_formats_are_found_and_said(values, words):
    assert detect(record(values)).in_words() == words
    assert example(values).source == "data.jsonl, line 1"


def test_columns_that_are_not_used_are_known():
    assert detect(record(FOUND["messages come first"][0])).unused == ("prompt", "prompt_id")


def test_conversations():
    turns = [{"from": "system", "value": "S"}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    wanted = ({"role": "system", "content": "S"}, USER, MODEL)
    assert example({"conversations": turns}).messages == wanted
    assert example({"conversations": turns[1:], "system": "S"}).messages == wanted
    assert example({"conversations": turns[1:], "system": None}).messages == wanted[1:]
    assert example({"conversations": turns, "system": "Other"}).messages == wanted
    assert example({"prompt": [USER], "completion": [MODEL]}).messages == wanted[1:]


def test_null_keys_that_columnar_files_give_every_message_are_left_out():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {**USER, "tool_calls": None, "name": None},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "7"},
        {**MODEL, "weight": 1},
    ]
    found = example({"messages": messages, "tools": [{"type": "function"}]})
    assert found == Conversation((USER, *messages[1:]), [{"type": "function"}], "data.jsonl, line 1")


def test_pairs_and_texts():
    where = "data.jsonl, line 1"
    assert example({"text": "Hello"}) == PlainText("Hello", where)
    assert example({"prompt": "a", "completion": 7, "system": "S"}) == Pair("a", "a", "7", "S", where)
    assert example({"instruction": "Add", "input": "1 2", "output": "3"}) == Pair(
        "Add\n\n1 2", "### Instruction:\nAdd\n\n### Input:\n1 2\n\n### Response:\n", "3", None, where
    )
    assert example({"instruction": "Add", "input": None, "output": "3"}) == Pair(
        "Add", "### Instruction:\nAdd\n\n### Response:\n", "3", None, where
    )


def test_mappings_name_columns_or_texts_with_columns():
    values = {"q": "1+1?", "a": 2, "prompt": "other", "why": "so"}
    assert example(values, {"prompt": "q", "completion": "a"}).prompt == "1+1?"
    found = example(values, {"prompt": "Question: {q}\nAnswer:", "completion": " {a} {{{why}}}"})
    assert (found.prompt, found.completion) == ("Question: 1+1?\nAnswer:", " 2 {so}")
    form = detect(record(values), mapping={"prompt": "Question: {q}", "completion": "a"})
    assert form.in_words() == "prompt-completion: prompt = 'Question: {q}', completion = 'a'"
    assert form.unused == ("prompt", "why")
    assert isinstance(example({"body": "Hello", "prompt": "x"}, {"text": "body"}), PlainText)


def test_a_format_can_be_asked_for():
    values = {"text": "t", "prompt": "p", "completion": "c"}
    assert isinstance(example(values), Pair)
    assert isinstance(example(values, asked="text"), PlainText)


UNKNOWN = {
    "nothing known": ({"a": 1}, "auto", {}, DataError, r"line 1: has the columns a, expected those of a known format"),
    "not the one asked for": (
        {"text": "x"},
        "alpaca",
        {},
        DataError,
        r"expected those of alpaca: alpaca \(instruction",
    ),
    "no such format": ({"text": "x"}, "json", {}, UsageError, "--format json: expected auto or one of messages"),
    "no such field": ({"text": "x"}, "auto", {"txt": "text"}, UsageError, "--map txt=...: expected one of the fields"),
    "no such column": ({"text": "x"}, "auto", {"text": "body"}, DataError, "has no column 'body' for --map, only text"),
    "no such column in a text": ({"t": "x"}, "auto", {"text": "{t}{u}"}, DataError, "has no column 'u' for --map"),
    "half a pair": ({"q": "x"}, "auto", {"prompt": "q"}, DataError, "has the columns q, expected those of a known"),
}


@pytest.mark.parametrize(("values", "asked", "mapping", "error", "text"), UNKNOWN.values(), ids=list(UNKNOWN))
def test_what_no_format_fits(values, asked, mapping, error, text):
    with pytest.raises(error, match=text):
        detect(record(values), asked, mapping)


def test_another_format_further_down_names_the_line():
    form = detect(record({"prompt": "a", "completion": "b"}))
    with pytest.raises(DataError, match=r"line 7: has the columns messages, expected 'prompt' \(prompt-completion, as"):
        form.example(record({"messages": [USER, MODEL]}, 7))
    form = detect(record({"a": "x"}), mapping={"text": "<{a}>"})
    with pytest.raises(DataError, match="line 8: has the columns b, expected 'a' too"):
        form.example(record({"b": "x"}, 8))


SHARE = {"from": "human", "value": "Hi"}
WRONG = {
    "no text": ({"prompt": "a", "completion": ["b"]}, r'completion is \["b"\], expected a text'),
    "null": ({"prompt": None, "completion": "b"}, "prompt is null, expected a text"),
    "messages with text": ({"prompt": [USER], "completion": "b"}, "prompt is a list of messages and completion is not"),
    "unknown role": ({"messages": [USER, {"role": "model", "content": "x"}]}, r"messages\[1\] is of 'model', expected one of the roles system, dev"),
    "twice": ({"messages": [USER, USER, MODEL]}, r"messages\[1\] is of 'user', after one of 'user', expected one of 'assistant'"),
    "assistant first": ({"messages": [MODEL, USER]}, r"messages\[0\] is of 'assistant', the first, expected one of 'system'"),
    "system later": ({"messages": [USER, {"role": "system", "content": "x"}, MODEL]}, r"messages\[1\] is of 'system', after"),
    "ends with the user": ({"messages": [USER, MODEL, USER]}, "the last message is of 'user', expected 'assistant'"),
    "no role": ({"messages": [USER, {"content": "x", "role": 3}]}, r"messages\[1\] is .*, expected a role and a content"),
    "no content": ({"messages": [USER, {"role": "assistant"}]}, r"messages\[1\] has no content, expected a text"),
    "weight": ({"messages": [USER, {**MODEL, "weight": 0.5}]}, r"messages\[1\]: weight is 0.5, expected 0 or 1"),
    "tools": ({"messages": [USER, MODEL], "tools": ["f"]}, r'tools is \["f"\], expected a list of objects'),
    "sharegpt role": ({"conversations": [SHARE, {"from": "alien", "value": "x"}]}, "turn 2 is from 'alien', expected one of"),
    "sharegpt keys": ({"conversations": [SHARE, {"from": "gpt"}]}, 'turn 2 is {"from": "gpt"}, expected from and value'),
}  # fmt: skip


@pytest.mark.parametrize(("values", "text"), WRONG.values(), ids=list(WRONG))
def test_wrong_records_name_what_is_wrong(values, text):
    with pytest.raises(DataError, match=rf"^data.jsonl, line 1: {text}"):
        example(values)


def test_lists_that_are_none_further_down():
    form = detect(record({"conversations": [SHARE, {"from": "gpt", "value": "x"}]}))
    with pytest.raises(DataError, match="line 2: conversations is 7, expected a list of turns"):
        form.example(record({"conversations": 7}, 2))
    form = detect(record({"messages": [USER, MODEL]}))
    for value, shown in (([], r"\[\]"), ("x", '"x"')):
        with pytest.raises(DataError, match=f"line 2: messages is {shown}, expected a list of messages"):
            form.example(record({"messages": value}, 2))
