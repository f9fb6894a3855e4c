"""A server that is told to end while it works: it finishes what it has begun and refuses the rest politely."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from typing import Any

from http_client import Address, Connection
from serve_fault_cases import CHAT, HELLO
from serve_faults import Check, is_error_shape
from server_process import ServerProcess

NUM_STREAMS = 16
MAX_TOKENS = 96
PROBE_SECONDS = 0.05
DRAIN_FLAGS = ("--drain-seconds", "600", "--parallel", "8")


async def drained(server: ServerProcess) -> list[Check]:
    """SIGTERM while streams run and wait in the queue, with new requests coming in until the server has gone.

    Args:
        server: Started with DRAIN_FLAGS; it has ended after this.
    """
    streams = [asyncio.create_task(_whole_stream(server.address, index)) for index in range(NUM_STREAMS)]
    plain = asyncio.create_task(_whole_answer(server.address))
    await asyncio.sleep(1.0)
    server.process.send_signal(signal.SIGTERM)
    while await _probe(server.address, "GET", "/ready") == "200":
        await asyncio.sleep(0.001)  # the signal is on its way
    probes: list[str] = []
    health: list[str] = []
    while server.is_alive:
        probes.append(await _probe(server.address, "POST", CHAT, HELLO))
        health.append(" and ".join([await _probe(server.address, "GET", path) for path in ("/ready", "/health")]))
        await asyncio.sleep(PROBE_SECONDS)
    ends = Counter(await asyncio.gather(*streams, return_exceptions=True))
    answers = await asyncio.gather(plain, return_exceptions=True)
    code = server.process.wait()
    announced = {"503 Retry-After", "closed"}
    whole = {f"[DONE] length {MAX_TOKENS}": NUM_STREAMS}
    return [
        Check("streams that were begun", dict(ends) == whole, str(dict(ends)), str(whole)),
        Check("a plain answer that was begun", answers == [f"length {MAX_TOKENS}"], str(answers), "whole"),
        Check(
            "new requests during the drain",
            set(probes) <= announced and "503 Retry-After" in probes,
            str(dict(Counter(probes))),
            "503 with Retry-After in the one shape, then closed",
        ),
        Check(
            "/ready and /health during the drain",
            set(health) <= {"503 Retry-After and 200", "503 Retry-After and closed", "closed and closed"},
            str(dict(Counter(health))),
            "503 and 200",
        ),
        Check("exit code", code == 0, str(code), "0"),
    ]


async def _probe(address: Address, method: str, path: str, body: Any = None) -> str:
    """An answer in a few words; an error that has not the one shape is named."""
    try:
        async with Connection(address) as connection:
            answer = await connection.ask(method, path, body)
            data = await answer.body()
    except (ConnectionError, asyncio.IncompleteReadError):
        return "closed"
    words = [str(answer.status)]
    if "retry-after" in answer.headers:
        words.append("Retry-After")
    if answer.status >= 400 and not is_error_shape(data):
        words.append(f"in another shape: {data[:100]!r}")
    return " ".join(words)


def _body(seed: int, stream: bool) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Tell me a story about a lighthouse. ({seed})"}]
    return {"messages": messages, "max_tokens": MAX_TOKENS, "ignore_eos": True, "seed": seed, "stream": stream}


async def _whole_stream(address: Address, seed: int) -> str:
    """How a stream ended, and its tokens."""
    body = _body(seed, True) | {"stream_options": {"include_usage": True}}
    async with Connection(address) as connection:
        answer = await connection.ask("POST", CHAT, body)
        if answer.status != 200:
            return str(answer.status)
        reason, tokens, last = None, 0, ""
        async for last in answer.events():
            if last != "[DONE]":
                data = json.loads(last)
                tokens = (data.get("usage") or {}).get("completion_tokens", tokens)
                for choice in data.get("choices", ()):
                    reason = choice["finish_reason"] or reason
    return f"{last} {reason} {tokens}"


async def _whole_answer(address: Address) -> str:
    async with Connection(address) as connection:
        answer = await connection.ask("POST", CHAT, _body(99, False))
        data = await answer.json()
    if answer.status != 200:
        return f"{answer.status} {data}"
    return f"{data['choices'][0]['finish_reason']} {data['usage']['completion_tokens']}"
