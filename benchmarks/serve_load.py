"""Clients that chat with a server in a closed loop, and what they see: speed, first tokens, gaps."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

from http_client import Address, Connection

MIN_TOKENS, MAX_TOKENS = 64, 128  # of an answer: unequal, so that clients do not march in step
RAMP_SECONDS = 3.0  # from the start until all clients are in different places of their requests


@dataclasses.dataclass(frozen=True)
class Timing:
    """One answer as its client saw it; times are of time.perf_counter.

    Attributes:
        begin: When it was asked for.
        times: When each event with new text came.
        tokens, prompt_tokens: As the server counts them.
        text: The answer.
    """

    begin: float
    times: Sequence[float]
    tokens: int
    prompt_tokens: int
    text: str

    @property
    def first_token_seconds(self) -> float:
        """From the request to the first text."""
        return self.times[0] - self.begin

    @property
    def inter_token_seconds(self) -> float:
        """Between two tokens, in the mean over the answer; an event may bring several."""
        return (self.times[-1] - self.times[0]) / max(self.tokens - 1, 1)

    @property
    def gaps(self) -> list[float]:
        """Seconds between one event and the next."""
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]


async def timed_chat(address: Address, messages: Sequence[dict[str, str]], max_tokens: int, seed: int) -> Timing:
    """Stream the answer to a conversation: sampled, and as long as asked for."""
    body = {
        "messages": list(messages),
        "max_tokens": max_tokens,
        "temperature": 0.8,
        "top_k": 40,
        "top_p": 0.95,
        "min_p": 0.0,
        "seed": seed,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    begin, times, events = time.perf_counter(), [], []
    async with Connection(address) as connection:
        answer = await connection.ask("POST", "/v1/chat/completions", body)
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {(await answer.body())[:500]!r}")
        async for event in answer.events():  # read now, understood when time does not matter
            times.append(time.perf_counter())
            events.append(event)
    return _understood(begin, times, events)


async def closed_loop(address: Address, prompts: Iterator[str], num_clients: int, seconds: float) -> dict[str, Any]:
    """Figures of clients that ask anew as soon as they have their answer.

    Args:
        address: The server's.
        prompts: Each is sent once.
        num_clients: Who ask at the same time.
        seconds: Requests begin for so long; the first RAMP_SECONDS are not counted.
    """
    begin = time.perf_counter()
    end = begin + seconds
    answers: list[Timing] = []

    async def client(generator: random.Random) -> None:
        while time.perf_counter() < end:
            messages = [{"role": "user", "content": next(prompts)}]
            max_tokens = generator.randint(MIN_TOKENS, MAX_TOKENS)
            answers.append(await timed_chat(address, messages, max_tokens, generator.getrandbits(31)))

    await asyncio.gather(*(client(random.Random(index)) for index in range(num_clients)))
    # All are busy until the first of them has its last answer.
    end = min(answer.times[-1] for answer in answers if answer.times[-1] >= end)
    return figures(answers, begin + min(RAMP_SECONDS, seconds / 4), end)


def figures(answers: Sequence[Timing], begin: float, end: float) -> dict[str, Any]:
    """What `answers` tell of the time from `begin` to `end`."""
    tokens = 0.0
    for answer in answers:
        inside = sum(begin <= moment < end for moment in answer.times)
        tokens += answer.tokens * inside / len(answer.times)
    counted = [answer for answer in answers if begin <= answer.begin < end] or list(answers)
    first = [answer.first_token_seconds for answer in counted]
    inter = [answer.inter_token_seconds for answer in counted]
    gaps = [gap for answer in counted for gap in answer.gaps]
    return {
        "requests": len(counted),
        "prompt_tokens": statistics.mean(answer.prompt_tokens for answer in counted),
        "output_tokens": statistics.mean(answer.tokens for answer in counted),
        "output_tokens_per_second": tokens / (end - begin),
        "first_token_p50": quantile(first, 0.5),
        "first_token_p95": quantile(first, 0.95),
        "inter_token_p50": quantile(inter, 0.5),
        "inter_token_p95": quantile(inter, 0.95),
        "event_gap_p50": quantile(gaps, 0.5),
        "event_gap_p95": quantile(gaps, 0.95),
    }


async def two_turns(address: Address, document: str, seed: int) -> dict[str, float]:
    """Seconds to the first token of a long question, and of a short one after its answer."""
    messages = [{"role": "user", "content": f"{document}\n\nWhat is this text about?"}]
    first = await timed_chat(address, messages, MIN_TOKENS, seed)
    messages += [
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "Say it again in one sentence."},
    ]
    second = await timed_chat(address, messages, MIN_TOKENS, seed)
    return {
        "first_turn": first.first_token_seconds,
        "second_turn": second.first_token_seconds,
        "first_prompt_tokens": first.prompt_tokens,
        "second_prompt_tokens": second.prompt_tokens,
    }


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _understood(begin: float, times: Sequence[float], events: Sequence[str]) -> Timing:
    pieces, moments, usage = [], [], None
    for moment, event in zip(times, events, strict=True):
        if event == "[DONE]":
            continue
        data = json.loads(event)
        if "error" in data:
            raise RuntimeError(f"in the stream: {event[:500]}")
        usage = data.get("usage") or usage
        for choice in data["choices"]:
            if text := choice["delta"].get("content"):
                pieces.append(text)
                moments.append(moment)
    if usage is None or not moments:
        raise RuntimeError(f"a stream of {len(events)} events has no text or no usage")
    return Timing(begin, moments, usage["completion_tokens"], usage["prompt_tokens"], "".join(pieces))
