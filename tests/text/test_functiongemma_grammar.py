"""The rules of arguments; whether texts that obey them can be read is in tests/generate/test_constraints.py."""

from __future__ import annotations

import pytest

from gemcut.errors import UsageError
from gemcut.text.functiongemma_grammar import arguments_grammar
from gemcut.text.tool_calls import Tool


def rules(schema, is_strict=False):
    parameters = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    first, *others = arguments_grammar(Tool("f", parameters=parameters, is_strict=is_strict), "x")
    assert first.startswith('x: "{" ("a:" x_1') or "x_" in first
    return dict(line.split(": ", 1) for line in others)


@pytest.mark.parametrize(
    ("schema", "expression"),
    [
        ({"type": "string"}, "<escape> /(?s:.{1,})/? <escape>"),
        ({"type": "string", "minLength": 2, "maxLength": 5}, "<escape> /(?s:.{2,5})/ <escape>"),
        ({"type": "string", "maxLength": 0}, "<escape> <escape>"),
        ({"enum": ["b", "a b", ""]}, '(<escape> "b" <escape> | <escape> "a b" <escape> | <escape>  <escape>)'),
        ({"const": {"y": [1, None], "x": "é"}}, '"{" "x:" <escape> "é" <escape> "," "y:" "[" "1" "," "null" "]" "}"'),
        ({"type": "object", "additionalProperties": False}, '"{" "}"'),
        ({"type": "array", "maxItems": 0}, '"[" "]"'),
    ],
)
def test_expressions(schema, expression):
    assert rules(schema)["x_1"] == expression


def test_properties_are_in_alphabetical_order_and_optional_ones_may_be_missing():
    parameters = {"properties": {"c": {"const": 3}, "a": {"const": 1}, "b": {"const": 2}}, "required": ["b"]}
    first, *others = arguments_grammar(Tool("f", parameters=parameters), "x")
    assert first == 'x: "{" (("a:" x_5 x_4 | "b:" x_3 x_2)) "}"'
    assert others[:2] == ['x_1: "3"', 'x_2: ("," "c:" x_1)? ']
    assert 'x_4: "," "b:" x_3 x_2' in others


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (False, "f: parameters: the schema False allows nothing"),
        ({"type": "whole"}, "type is 'whole', expected one of string"),
        ({"$ref": "#/$defs/missing"}, r"\$ref is '#/\$defs/missing', expected the name of a schema"),
        ({"$ref": "http://x"}, r"\$ref is 'http://x'"),
        ({"type": "object", "properties": {"a:b": {}}}, "the property 'a:b' cannot be written without quotes"),
        (
            {"type": "object", "properties": {"a": {}}, "required": ["b"]},
            "'b' is required, but not among the properties",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(schema, message):
    with pytest.raises(UsageError, match=f"tools: f: parameters: .*{message.removeprefix('f: parameters: ')}"):
        rules(schema)


@pytest.mark.parametrize(
    "schema",
    [{"enum": 5}, {"anyOf": 5}, {"type": 5}, {"properties": [1]}, {"properties": {"a": {}}, "required": 5}, {"items": 5},
     {"type": "array", "minItems": "1"}, {"type": "string", "minLength": "1"}],
)  # fmt: skip
def test_what_is_no_schema_is_refused(schema):
    with pytest.raises(UsageError, match="tools: f: parameters: "):
        rules(schema)


def test_a_strict_tool_leaves_nothing_out():
    schema = {"type": "string", "pattern": "a+", "description": "An a."}
    assert "pattern" not in str(rules(schema))
    with pytest.raises(UsageError, match="the keyword 'pattern' is not supported here; leave it out, or strict"):
        rules(schema, is_strict=True)
    assert rules({"type": "integer", "minimum": 1, "title": "A"}, is_strict=True)["x_1"].startswith(
        '%json {"type": "int'
    )


def test_schemas_refer_to_themselves():
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    parameters = {"$defs": {"node": node}, "properties": {"a": {"$ref": "#/$defs/node"}}}
    assert len(arguments_grammar(Tool("f", parameters=parameters), "x")) < 10
    assert arguments_grammar(Tool("f", parameters={"properties": {"any": {}, "other": True}}), "x")
