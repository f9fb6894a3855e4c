"""What is left of the body of a refused request."""

from __future__ import annotations

import asyncio

import pytest

from gemcut.serve import bodies

CHUNK = {"type": "http.request", "body": b"x" * 1000, "more_body": True}
END = {"type": "http.request", "body": b"", "more_body": False}


def _num_taken(messages, headers=()):
    taken = []

    async def receive():
        if len(taken) == len(messages):
            await asyncio.Event().wait()  # the client sends nothing more
        taken.append(messages[len(taken)])
        return taken[-1]

    asyncio.run(bodies.discard_body({"headers": list(headers)}, receive))
    return len(taken)


@pytest.mark.parametrize(
    ("messages", "headers", "expected"),
    [
        pytest.param([CHUNK, CHUNK, END, CHUNK], [], 3, id="to-its-end"),
        pytest.param([CHUNK, {"type": "http.disconnect"}, CHUNK], [], 2, id="until-the-client-goes"),
        pytest.param([CHUNK] * 10, [], 5, id="no-more-than-the-limit"),
        pytest.param([CHUNK, END], [(b"expect", b"100-continue")], 0, id="nothing-of-one-that-waits"),
    ],
)
def test_a_refused_body_is_thrown_away(monkeypatch, messages, headers, expected):
    monkeypatch.setattr(bodies, "_DISCARDED_BYTES", 5000)
    assert _num_taken(messages, headers) == expected


def test_a_slow_body_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(bodies, "_DISCARD_SECONDS", 0)
    assert _num_taken([CHUNK]) <= 1
