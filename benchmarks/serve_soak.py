"""Many clients for a long time, of which many leave early: every answer is right, and nothing is left behind."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import time
from typing import Any

from http_client import Address, Connection
from serve_fault_cases import CHAT
from serve_faults import Check, counters
from server_process import ServerProcess

NUM_PROMPTS = 48
MAX_TOKENS = 24
SAMPLE_SECONDS = 5.0
MAX_GROWTH = 0.05
IDLE_SECONDS = 10.0
SUBJECTS = ("rivers", "bread", "the Moon", "chess", "glass", "honey bees", "old maps", "tides")
FORMS = ("Tell me about {}.", "List three facts on {}:", "Why do people like {}?", "Write a short poem about {}.")
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "size": {"enum": ["small", "large"]}},
    "required": ["name", "size"],
    "additionalProperties": False,
}


@dataclasses.dataclass
class Tally:
    """What the clients saw.

    Attributes:
        right, left, refused: Answers as they must be, clients that left, refusals of a full queue.
        wrong: What was not as it must be, in words.
    """

    right: int = 0
    left: int = 0
    refused: int = 0
    wrong: list[str] = dataclasses.field(default_factory=list)


def requests() -> list[tuple[str, dict[str, Any]]]:
    """Paths and bodies of greedy requests: chats, completions, several samples, schemas."""
    bodies = []
    for index in range(NUM_PROMPTS):
        text = FORMS[index % len(FORMS)].format(SUBJECTS[index // len(FORMS) % len(SUBJECTS)]) + f" ({index % 3})"
        body: dict[str, Any] = {"temperature": 0, "max_tokens": MAX_TOKENS - index % 7, "seed": index}
        if index % 6 == 5:
            bodies.append(("/v1/completions", body | {"prompt": [text, text + " And"]}))
            continue
        body["messages"] = [{"role": "user", "content": text}]
        if index % 6 == 3:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
        if index % 6 == 4:
            body |= {"n": 2, "logprobs": True}
        bodies.append((CHAT, body))
    return bodies


async def soaked(server: ServerProcess, num_clients: int, minutes: float) -> list[Check]:
    """Answers one by one, then the same from many clients at once, some of whom leave; memory and slots after it."""
    work = [(path, body, await answered(server.address, path, body, False)) for path, body in requests()]
    end = time.monotonic() + minutes * 60
    tally, memory = Tally(), []

    async def client(generator: random.Random) -> None:
        while time.monotonic() < end:
            await _once(server.address, *generator.choice(work), generator, tally)

    async def watch() -> None:
        while time.monotonic() < end:
            memory.append(server.resident_bytes())
            await asyncio.sleep(SAMPLE_SECONDS)

    await asyncio.gather(watch(), *(client(random.Random(index)) for index in range(num_clients)))
    return [
        Check("right answers", not tally.wrong and tally.right > 0, _shown(tally), "all that were waited for"),
        await nothing_left(server),
        _flat(memory),
    ]


async def nothing_left(server: ServerProcess) -> Check:
    """No text runs or waits soon after the last client has gone, and no keys and values are held for one."""
    names = ("gemcut_texts_running", "gemcut_texts_waiting", "gemcut_cache_bytes")
    end = time.monotonic() + IDLE_SECONDS
    while any(held := {name: (await counters(server.address))[name] for name in names}.values()):
        if time.monotonic() > end:
            break
        await asyncio.sleep(0.2)
    found = ", ".join(f"{name.removeprefix('gemcut_')} {value:g}" for name, value in zip(names, held, strict=True))
    return Check("slots at the end", not any(held), found, "0 running, 0 waiting, 0 bytes")


async def answered(address: Address, path: str, body: dict[str, Any], stream: bool) -> list[tuple[str, str]]:
    """Text and finish reason of each choice."""
    async with Connection(address) as connection:
        answer = await connection.ask("POST", path, body | {"stream": stream})
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {(await answer.body())[:300]!r}")
        if not stream:
            return [
                (choice["message"]["content"] if "message" in choice else choice["text"], choice["finish_reason"])
                for choice in (await answer.json())["choices"]
            ]
        texts: dict[int, str] = {}
        reasons: dict[int, str] = {}
        async for event in answer.events():
            if event == "[DONE]":
                return [(texts[index], reasons[index]) for index in sorted(texts)]
            data = json.loads(event)
            if "error" in data:
                raise RuntimeError(f"in the stream: {event[:300]}")
            for choice in data["choices"]:
                index = choice["index"]
                new = choice["delta"].get("content") if "delta" in choice else choice["text"]
                texts[index] = texts.get(index, "") + (new or "")
                reasons[index] = choice["finish_reason"] or reasons.get(index, "")
    raise RuntimeError("the stream ended without [DONE]")


async def _once(
    address: Address,
    path: str,
    body: dict[str, Any],
    expected: list[tuple[str, str]],
    generator: random.Random,
    tally: Tally,
) -> None:
    """One request, which its client waits for or leaves."""
    stream = generator.random() < 0.7
    try:
        if generator.random() < 0.4:
            await _left_early(address, path, body | {"stream": stream}, generator)
            tally.left += 1
        elif (found := await answered(address, path, body, stream)) == expected:
            tally.right += 1
        else:
            tally.wrong.append(f"{body}: found {found}, alone {expected}")
    except RuntimeError as error:
        if str(error).startswith("429"):
            tally.refused += 1
            await asyncio.sleep(generator.random())
        else:
            tally.wrong.append(str(error))
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        tally.wrong.append(f"{type(error).__name__}: {error}")


async def _left_early(address: Address, path: str, body: dict[str, Any], generator: random.Random) -> None:
    """Ask, read for a moment or not at all, and go."""
    async with Connection(address) as connection:
        try:
            async with asyncio.timeout(generator.choice((0.0, 0.01, 0.1, 1.0))):
                answer = await connection.ask("POST", path, body)
                async for _ in answer.chunks():
                    if generator.random() < 0.2:
                        return
        except TimeoutError:
            return


def _flat(memory: list[int]) -> Check:
    """Memory of the last third of the time against that of the second: the first fills pools and caches."""
    third = max(len(memory) // 3, 1)
    before, after = memory[third : 2 * third] or memory, memory[2 * third :] or memory
    growth = (sum(after) / len(after)) / (sum(before) / len(before)) - 1
    found = f"{growth:+.1%}: {min(memory) >> 20} to {max(memory) >> 20} MiB in {len(memory)} samples"
    return Check("memory, last third against the second", growth <= MAX_GROWTH, found, f"<= +{MAX_GROWTH:.0%}")


def _shown(tally: Tally) -> str:
    text = f"{tally.right} right, {len(tally.wrong)} wrong, {tally.left} left early, {tally.refused} refused (429)"
    return text + (f"; first wrong: {tally.wrong[0][:600]}" if tally.wrong else "")
