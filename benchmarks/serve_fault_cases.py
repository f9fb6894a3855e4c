"""Requests that no client should send, and the answer that each must get."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "temperature": 0}


@dataclasses.dataclass(frozen=True)
class Fault:
    """A request and the answer it must get.

    Attributes:
        name: In words.
        body: As JSON; bytes as they are.
        statuses: One of these.
        path, method, headers: Of the request.
        code: The error's code; None for any.
        is_raw: Whether the HTTP itself is broken, so that no answer will do, too.
    """

    name: str
    body: Any = None
    statuses: tuple[int, ...] = (400,)
    path: str = CHAT
    method: str = "POST"
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    code: str | None = None
    is_raw: bool = False


def chat(**changes: Any) -> dict[str, Any]:
    """A small good request with some fields changed."""
    return HELLO | changes


def says(content: Any, role: Any = "user") -> dict[str, Any]:
    """A request with one message."""
    return chat(messages=[{"role": role, "content": content}])


def _formatted(schema: Any) -> dict[str, Any]:
    return chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})


def _tool(**changes: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}} | changes}


_FIELDS: tuple[tuple[str, Any], ...] = (
    ("n", 0), ("n", -1), ("n", 10**9), ("n", 10**30), ("n", 1.5), ("n", "2"),
    ("max_tokens", 0), ("max_tokens", -1), ("max_tokens", 10**18), ("max_completion_tokens", -5),
    ("temperature", -0.1), ("temperature", "hot"), ("temperature", True), ("top_p", 0), ("top_p", -1), ("top_p", 1.5),
    ("top_k", -2), ("top_k", 0.5), ("min_p", -0.1), ("min_p", 2), ("repetition_penalty", 0), ("repetition_penalty", -1),
    ("presence_penalty", 3), ("frequency_penalty", -3), ("seed", 2**70), ("seed", "x"), ("stop", 5), ("stop", [""]),
    ("stop", ["x"] * 17), ("stop", ["x" * 100_000]), ("logit_bias", {"-1": 1}), ("logit_bias", {"x": 1}),
    ("logit_bias", {"999999999": 1}), ("logit_bias", {"5": 1000}), ("top_logprobs", 21), ("top_logprobs", -1),
    ("stop_token_ids", [-1]), ("stop_token_ids", [10**9]), ("min_tokens", -1), ("stream", "yes"),
    ("stream_options", {"include_usage": True}), ("response_format", {"type": "xml"}),
    ("response_format", {"type": "json_schema"}), ("tools", "f"), ("tools", [{}]), ("tools", [_tool(name="")]),
    ("tools", [_tool(name="a b\n")]), ("tools", [_tool(parameters=5)]), ("tools", [_tool()] * 2000),
    ("tool_choice", {"type": "function", "function": {"name": "f"}}), ("regex", "(" * 5000),
    ("grammar", "start: NOTHING"), ("grammar", "start: start start"), ("messages", []), ("messages", "Hello"),
    ("messages", None),
    ("messages", [None]), ("messages", [{}]), ("messages", [{"role": "user"}] * 3), ("model", 7),
)  # fmt: skip

FAULTS: tuple[Fault, ...] = (
    *(Fault(f"{name} = {json.dumps(value)[:50]}", chat(**{name: value})) for name, value in _FIELDS),
    Fault("10 MB body", json.dumps(says("x" * 10_000_000)).encode(), (413,)),
    Fault("10 MB body of spaces", b" " * 10_000_000, (413,)),
    Fault("arrays 100,000 deep", b"[" * 100_000 + b"]" * 100_000),
    Fault("objects 1,000 deep", b'{"a":' * 1000 + b"1" + b"}" * 1000),
    Fault("arrays 500 deep in a field", chat(metadata=json.loads("[" * 500 + "]" * 500))),
    Fault("invalid UTF-8", b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}'),
    Fault("invalid UTF-8 in a field's name", b'{"\xc3\x28": 1}'),
    Fault("half a document", json.dumps(HELLO).encode()[:-9]),
    Fault("no JSON", b"Hello"),
    Fault("empty body", b""),
    Fault("null bytes", b"\0" * 100),
    Fault("a list", []),
    Fault("null", b"null"),
    Fault("a number", b"1e999"),
    Fault("NaN", b'{"messages": [{"role": "user", "content": "Hi"}], "temperature": NaN}'),
    Fault("Infinity", b'{"messages": [{"role": "user", "content": "Hi"}], "temperature": 1e999}'),
    Fault("a lone surrogate", b'{"messages": [{"role": "user", "content": "\\ud800"}], "max_tokens": 4}', (200, 400)),
    Fault("prompt over the context", says("word " * 20_000), code="context_length_exceeded"),
    Fault("answer over the context", chat(max_tokens=10_000_000), code="context_length_exceeded"),
    Fault("unknown model", chat(model="no-such-model"), (404,)),
    Fault("an image", says([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}])),
    Fault("unknown role", says("Hello", role="root")),
    Fault("content is a number", says(5)),
    Fault("a schema that refers to another host", _formatted({"$ref": "http://localhost/x"})),
    Fault("a schema that refers to itself for ever", _formatted({"$ref": "#"})),
    Fault("a schema of nonsense", _formatted({"type": "nonsense"})),
    Fault("a billion items", _formatted({"type": "array", "minItems": 10**9, "items": {"type": "null"}}), (200, 400)),
    Fault("a hostile pattern", _formatted({"type": "string", "pattern": "((a{1,500}){1,500}){1,500}"}), (200, 400)),
    Fault("a hostile regex", chat(regex="a{1,100000000}"), (200, 400)),
    Fault("empty prompt", {"prompt": "", "max_tokens": 1}, path="/v1/completions"),
    Fault("token ids out of the vocabulary", {"prompt": [10**8], "max_tokens": 1}, path="/v1/completions"),
    Fault("negative token ids", {"prompt": [-1], "max_tokens": 1}, path="/v1/completions"),
    Fault("mixed prompts", {"prompt": ["a", 5, None], "max_tokens": 1}, path="/v1/completions"),
    Fault("10,000 prompts", {"prompt": ["a"] * 10_000, "max_tokens": 1}, path="/v1/completions"),
    Fault("best_of below n", {"prompt": "a", "max_tokens": 1, "n": 3, "best_of": 2}, path="/v1/completions"),
    Fault("detokenize what is no token", {"tokens": [10**9]}, path="/detokenize"),
    Fault("tokenize a number", {"prompt": 5}, path="/tokenize"),
    Fault("no such path", HELLO, (404,), path="/v1/nothing"),
    Fault("GET of a chat, which would list stored ones", None, method="GET"),
    Fault("DELETE of the models", None, (405,), "/v1/models", "DELETE"),
    Fault("a method that does not exist", None, (405,), method="BREW"),
    *(
        Fault(f"path {path}", None, (400, 404), path, "GET")
        for path in (
            "/page/../errors.py", "/page/..%2ferrors.py", "/page/%2e%2e/%2e%2e/pyproject.toml", "/../../etc/passwd",
            "/page//etc/passwd", "/page/%00", "/page/index.html%00.js", "/page/..\\..\\errors.py",
            "/page/" + "a" * 5000,
            "/page/file:%2f%2f%2fetc%2fpasswd", "/v1/models/../../../etc/passwd", "//etc/passwd",
        )
    ),
    Fault("another site's Host", HELLO, (400, 403, 421), headers={"host": "evil.example"}),
    Fault("no key", HELLO, (401,), headers={"authorization": ""}),
    Fault("wrong key", HELLO, (401,), headers={"authorization": "Bearer wrong"}),
    Fault("key with another scheme", HELLO, (401,), headers={"authorization": "Basic a2V5"}),
    Fault("key not in ASCII", HELLO, (401,), headers={"authorization": "Bearer schlüssel"}),
    Fault("wrong key and 10 MB", b"x" * 10_000_000, (401,), headers={"authorization": "Bearer wrong"}, is_raw=True),
    Fault("a header of 1 MB", HELLO, (400, 431), headers={"x-long": "a" * 1_000_000}, is_raw=True),
    Fault("10,000 headers", HELLO, (200, 400, 431), headers={f"x-{n}": "a" for n in range(10_000)}, is_raw=True),
    Fault("negative length", b"", headers={"content-length": "-1"}, is_raw=True),
    Fault("two lengths", json.dumps(HELLO).encode() + b" ", headers={"Content-Length": "5"}, is_raw=True),
    Fault("length and chunks", b"0\r\n\r\n", headers={"transfer-encoding": "chunked"}, is_raw=True),
    Fault("chunks of nonsense", b"zz\r\nabc\r\n", headers={"transfer-encoding": "chunked"}, is_raw=True),
    Fault("an encoding nobody knows", b"\x1f\x8b\x08", headers={"content-encoding": "gzip"}),
)  # fmt: skip

GOOD_HEADERS: tuple[tuple[str, str], ...] = (
    ("x-request-id", "a" * 10_000),
    ("x-request-id", "<script>alert(1)</script>"),
    ("x-forwarded-for", "10.0.0.1, evil"),
    ("x-http-method-override", "DELETE"),
    ("content-type", "text/plain"),
    ("accept", "application/xml"),
    ("expect", "100-continue"),
)
