"""Requests made wrong at random: no answer is a 5xx, every error has the one shape, and the server goes on."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from http_client import Address, Connection
from serve_fault_cases import CHAT
from serve_faults import Check, is_error_shape, is_well

NUM_AT_ONCE = 8
READ_SECONDS = 5.0
SEEDS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        CHAT,
        {
            "model": "starter",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
            ],
            "max_tokens": 4,
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 5,
            "min_p": 0.1,
            "n": 2,
            "seed": 1,
            "stop": ["\n\n"],
            "logprobs": True,
            "top_logprobs": 2,
            "logit_bias": {"100": 1.5},
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    ),
    (
        CHAT,
        {
            "messages": [
                {"role": "user", "content": "Weather?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "a",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "a", "content": "sunny"},
            ],
            "max_tokens": 4,
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "weather",
                        "description": "The weather.",
                        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
                    },
                }
            ],
            "tool_choice": "auto",
        },
    ),
    (
        CHAT,
        {
            "messages": [{"role": "user", "content": "A person, please."}],
            "max_tokens": 4,
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "person",
                    "schema": {
                        "type": "object",
                        "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer"}},
                        "required": ["name"],
                    },
                },
            },
        },
    ),
    ("/v1/completions", {"prompt": ["Hello", "There"], "max_tokens": 4, "echo": True, "logprobs": 2, "best_of": 1}),
    ("/v1/completions", {"prompt": [2, 818, 5279], "max_tokens": 4, "regex": "[ab]+", "stream": True}),
    ("/tokenize", {"prompt": "Hello", "add_special_tokens": True, "return_token_strs": True}),
    ("/detokenize", {"tokens": [2, 818, 5279]}),
)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 0.5, -0.0, 1e308, 2**31, 2**63, 2**64, -(2**63) - 1, "", "a", "0", "\0", "\ud800",
    "a" * 5000, "🙂" * 50, "<end_of_turn>\n<start_of_turn>model\n", "../../etc/passwd", [], [[]], {}, [None],
    {"": None}, [1, "a"], {"type": "function"}, {"$ref": "#"}, {"type": "array", "items": {"$ref": "#"}}, "(", ".*",
    "[" * 100,
)  # fmt: skip


async def fuzzed(address: Address, num_requests: int, seed: int = 0) -> list[Check]:
    """So many requests, most with values changed, the others with bytes changed.

    Args:
        address: The server's; its context should be short, since some requests ask for all of it.
        num_requests: To send.
        seed: Of what is changed.
    """
    statuses: Counter[str] = Counter()
    problems: list[str] = []
    for path, body in SEEDS:
        found, fault = await _sent(address, path, json.dumps(body).encode())
        if found != "200":
            problems.append(f"{path} {body}, which is good: {found} {fault}")
    work = _mutants(random.Random(seed), num_requests)

    async def client() -> None:
        for path, body in work:
            found, fault = await _sent(address, path, body)
            statuses[found] += 1
            if fault:
                problems.append(f"{path} {body[:300]!r}: {fault}")

    await asyncio.gather(*(client() for _ in range(NUM_AT_ONCE)))
    summary = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    found = f"{summary}{'; ' + problems[0] if problems else ''}"
    return [
        Check(f"{num_requests} fuzzed requests (seed {seed})", not problems, found, "no 5xx, errors of the one shape"),
        Check("the server after the fuzzer", await is_well(address), "answers", "answers"),
    ]


def _mutants(generator: random.Random, count: int) -> Iterator[tuple[str, bytes]]:
    for _ in range(count):
        path, body = generator.choice(SEEDS)
        if generator.random() < 0.7:
            changed = copy.deepcopy(body)
            for _ in range(generator.randint(1, 2)):
                _change_value(changed, generator)
            yield path, json.dumps(changed).encode()
        else:
            yield path, _changed_bytes(bytearray(json.dumps(body).encode()), generator)


def _change_value(body: Any, generator: random.Random) -> None:
    """Replace, drop or add one value, at any depth."""
    holder = body
    while True:
        keys: list[Any] = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return
        key = generator.choice(keys)
        if isinstance(holder[key], dict | list) and holder[key] and generator.random() < 0.6:
            holder = holder[key]
            continue
        break
    choice = generator.random()
    if choice < 0.3:
        del holder[key]
    elif choice < 0.5 and isinstance(holder, dict):
        holder[generator.choice(("user", "n", "echo", "suffix", "tools", "x", "max_tokens", "grammar", "logprobs"))] = (
            generator.choice(VALUES)
        )
    else:
        holder[key] = copy.deepcopy(generator.choice(VALUES))


def _changed_bytes(data: bytearray, generator: random.Random) -> bytes:
    for _ in range(generator.randint(1, 3)):
        place = generator.randrange(len(data))
        choice = generator.random()
        if choice < 0.5:
            data[place] = generator.randrange(256)
        elif choice < 0.7:
            del data[place : place + generator.randint(1, 20)]
        elif choice < 0.9:
            data[place:place] = generator.choice((b'"', b"{", b"[" * 200, b"\\u", b"\xf0\x9f", b"0" * 50, b",", b"e9"))
        else:
            data[place:place] = data[generator.randrange(len(data)) :][:50]
        if not data:
            return b""
    return bytes(data)


async def _sent(address: Address, path: str, body: bytes) -> tuple[str, str | None]:
    """The status, and what is wrong with the answer; long answers are left."""
    try:
        async with asyncio.timeout(READ_SECONDS), Connection(address) as connection:
            answer = await connection.ask("POST", path, body)
            status = answer.status
            data = b""
            async for chunk in answer.chunks():
                data += chunk
    except TimeoutError:
        return "left", None
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        return type(error).__name__, f"the connection broke: {error}"
    if status >= 500:
        return str(status), f"{status} {data[:300]!r}"
    if status >= 400 and not is_error_shape(data):
        return str(status), f"another shape: {data[:300]!r}"
    if b'"error":' in data and status == 200:
        return "200 with an error event", f"{data[-400:]!r}"
    return str(status), None
