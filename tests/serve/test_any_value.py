"""Whatever stands in a field, the answer is one, or an error of the one shape that says it is the client's."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

pytestmark = pytest.mark.native

VALUES: tuple[Any, ...] = (
    None, True, -1, 0.5, 1e308, 2**64, 10**400, "", "a", "\0", "\ud800", [], [[]], {}, [None], {"": None}, {"self": 1},
    {"type": "function"}, {"$ref": "#"}, {"\ud800": "\ud800"}, {"minimum": 10**400}, {"enum": []}, "(",
)  # fmt: skip
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "string"}}}}}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"a": "b"}'}}
MESSAGES = [
    {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "x"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "a", "content": "ok"},
]
CHAT = {"messages": MESSAGES, "max_tokens": 2}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "tools": ("/v1/chat/completions", {**CHAT, "tools": [TOOL], "tool_choice": {**CALL, "id": None}}),
    "schema": (
        "/v1/chat/completions",
        {**CHAT, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
    ),
    "structured": ("/v1/completions", {"prompt": "Hi", "max_tokens": 2, "structured_outputs": {"json": SCHEMA}}),
    "stream": ("/v1/chat/completions", {**CHAT, "stream": True, "stream_options": {"include_usage": True}}),
    "completion": ("/v1/completions", {"prompt": ["Hi", [5, 6]], "max_tokens": 2}),
    "tokenize": ("/tokenize", {"messages": MESSAGES[:1]}),
    "detokenize": ("/detokenize", {"tokens": [5]}),
}


def places(body: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a body, outer ones first."""
    items = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    found = []
    for key, value in items:
        found += [(*before, key), *places(value, (*before, key))]
    return found


def changed(body: dict[str, Any], place: tuple[Any, ...], value: Any) -> bytes:
    """The body with another value in a place."""
    body = copy.deepcopy(body)
    holder: Any = body
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return json.dumps(body).encode()


def fields_of(name: str) -> list[str]:
    from gemcut.serve.requests import ChatRequest, CompletionRequest

    kinds = {"chat": ChatRequest, "completion": CompletionRequest}
    return [field for field in kinds[name].model_fields if field not in BODIES[name][1]] if name in kinds else []


@pytest.mark.parametrize("name", BODIES)
def test_no_value_makes_the_server_fail(served, name):
    path, body = BODIES[name]
    wrong = []
    for place in [*places(body), *((field,) for field in fields_of(name))]:
        for value in VALUES:
            response = served.client.post(path, content=changed(body, place, value))
            is_fine = response.status_code == 200 and b'"error":' not in response.content
            if not is_fine and not (response.status_code < 500 and response.json().keys() == {"error"}):
                wrong.append((place, value, response.status_code, response.text[:200]))
    assert not wrong
