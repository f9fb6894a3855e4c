"""An engine that fails in the middle of a text: its client is told in the stream, and the server goes on."""

from __future__ import annotations

import json
from typing import Any

from http_client import Address, Connection
from serve_fault_cases import CHAT
from serve_faults import Check, is_error_shape, is_well

FAILING_SEED = 666
TOKENS_BEFORE = 5


async def told_of_engine_errors(address: Address) -> list[Check]:
    """What clients of faulty_server.py see.

    Args:
        address: Its address.
    """
    events = await _events(address, _body(stream=True))
    pieces = [json.loads(event) for event in events if event != "[DONE]"]
    text = "".join(choice["delta"].get("content") or "" for piece in pieces for choice in piece.get("choices", ()))
    errors = [index for index, piece in enumerate(pieces) if "error" in piece]
    told = bool(errors) and errors[-1] == len(pieces) - 1 and is_error_shape(json.dumps(pieces[-1]).encode())
    async with Connection(address) as connection:
        answer = await connection.ask("POST", CHAT, _body(stream=False))
        body = await answer.body()
    async with Connection(address) as connection:
        health = await connection.ask("GET", "/health")
    return [
        Check("text before the error", bool(text), repr(text), "the first tokens"),
        Check(
            "the error in the stream", told, events[-2] if len(events) > 1 else str(events), "an event of the one shape"
        ),
        Check("the end of the stream", events[-1:] == ["[DONE]"], str(events[-1:]), "[DONE]"),
        Check(
            "a plain answer",
            answer.status == 500 and is_error_shape(body),
            f"{answer.status} {body[:200]!r}",
            "500 of the one shape",
        ),
        Check("the server after it", await is_well(address) and health.status == 200, str(health.status), "goes on"),
    ]


def _body(stream: bool) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Count to a hundred."}]
    return {"messages": messages, "max_tokens": 60, "ignore_eos": True, "seed": FAILING_SEED, "stream": stream}


async def _events(address: Address, body: dict[str, Any]) -> list[str]:
    async with Connection(address) as connection:
        answer = await connection.ask("POST", CHAT, body)
        return [event async for event in answer.events()]
