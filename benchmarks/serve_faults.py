"""Whether a server refuses what no client should send, and goes on for the others."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time

from http_client import Address, Answer, Connection, ask
from serve_fault_cases import CHAT, FAULTS, GOOD_HEADERS, HELLO, Fault, chat

QUICK_SECONDS = 2.0
CANCEL_SECONDS = 0.5
HELD_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Check:
    """One case of the verdict."""

    name: str
    passed: bool
    found: str
    expected: str


async def found_faults(address: Address) -> list[Check]:
    """Every case, one by one, against a server with a key; after each it must still answer."""
    checks = [await _checked(address, fault) for fault in FAULTS]
    checks += [await _harmless(address, *header) for header in GOOD_HEADERS]
    for special in (
        _slow_reader,
        _slow_body,
        _silent_client,
        _big_without_length,
        _wrong_keys_reach_nothing,
        _wrong_keys_hold_nothing,
    ):
        checks.append(await special(address))
    return [*checks, await _client_that_leaves(address, True), await _client_that_leaves(address, False)]


async def counters(address: Address) -> dict[str, float]:
    """What /metrics tells, summed over the labels."""
    _, text = await ask(address, "GET", "/metrics")
    values: dict[str, float] = {}
    for line in text.decode().splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            name = name.split("{")[0]
            values[name] = values.get(name, 0.0) + float(value)
    return values


async def is_well(address: Address) -> bool:
    """Whether a server answers a good request."""
    status, _ = await ask(address, "POST", CHAT, HELLO)
    return status == 200


def is_error_shape(body: bytes) -> bool:
    """Whether a body is an error as every error must be: {"error": {"message", "type", "param", "code"}}."""
    try:
        value = json.loads(body)
    except ValueError:
        return False
    return (
        isinstance(value, dict)
        and value.keys() == {"error"}
        and value["error"].keys() == {"message", "type", "param", "code"}
        and isinstance(value["error"]["message"], str)
        and len(body) < 3000
    )


async def _checked(address: Address, fault: Fault) -> Check:
    expected = " or ".join(map(str, fault.statuses)) + (f" {fault.code}" if fault.code else "")
    begin = time.perf_counter()
    try:
        status, body = await asyncio.wait_for(_sent(address, fault), 30)
        found = f"{status} {body[:200].decode(errors='replace')}"
        passed = status in fault.statuses and (status < 400 or is_error_shape(body))
        if fault.code:
            passed = passed and json.loads(body)["error"]["code"] == fault.code
        if b"root:" in body or b"import " in body:
            passed = False
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        found, passed = f"closed: {type(error).__name__}", fault.is_raw
    except TimeoutError:
        found, passed = "no answer in 30 s", False
    seconds = time.perf_counter() - begin
    if not await is_well(address):
        found, passed = f"{found}; and then the server answers no more", False
    return Check(fault.name, passed and seconds < 15, f"{found} ({seconds:.2f} s)", expected)


async def _sent(address: Address, fault: Fault) -> tuple[int, bytes]:
    async with Connection(address) as connection:
        answer = await connection.ask(fault.method, fault.path, fault.body, fault.headers)
        return answer.status, await answer.body()


async def _harmless(address: Address, name: str, value: str) -> Check:
    """A header that must change nothing; what is not a request id is not echoed."""
    async with Connection(address) as connection:
        answer = await connection.ask("POST", CHAT, HELLO, {name: value})
        if answer.status == 100:
            answer = await connection.answer()
        echoed = value in "".join(answer.headers.values()) and name == "x-request-id"
        await answer.body()
    passed = answer.status == 200 and not echoed
    return Check(f"header {name}: {value[:30]}", passed, f"{answer.status}, echoed: {echoed}", "200, not echoed")


async def _slow_reader(address: Address) -> Check:
    """A client that asks for much and reads nothing does not hold up another."""
    body = chat(max_tokens=400, stream=True, ignore_eos=True, n=4, logprobs=True, top_logprobs=20)
    slow = Connection(address, receive_bytes=1024)
    async with slow:
        await slow.ask("POST", CHAT, body)
        begin = time.perf_counter()
        for _ in range(5):
            await is_well(address)
        seconds = (time.perf_counter() - begin) / 5
    return Check("a slow reader holds up nobody", seconds < QUICK_SECONDS, f"{seconds:.2f} s", f"< {QUICK_SECONDS} s")


async def _client_that_leaves(address: Address, stream: bool) -> Check:
    """What nobody waits for is not generated."""
    async with Connection(address) as connection:
        asking = asyncio.create_task(connection.ask("POST", CHAT, chat(max_tokens=400, ignore_eos=True, stream=stream)))
        while not (await counters(address))["gemcut_texts_running"]:
            await asyncio.sleep(0.01)
        asking.cancel()
    begin = time.perf_counter()
    while (await counters(address))["gemcut_texts_running"] and time.perf_counter() - begin < 30:
        await asyncio.sleep(0.01)
    seconds = time.perf_counter() - begin
    name = f"the slot of a client that leaves a {'stream' if stream else 'plain answer'}"
    return Check(name, seconds < CANCEL_SECONDS, f"free after {seconds:.3f} s", f"< {CANCEL_SECONDS} s")


async def _slow_body(address: Address) -> Check:
    """A hundred clients that never finish their body do not hold up another."""
    head = f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {address.api_key}\r\n"
    return await _meanwhile(address, "clients that send half a body", head + "content-length: 1000\r\n\r\n{")


async def _silent_client(address: Address) -> Check:
    """A hundred clients that never finish their head do not hold up another."""
    return await _meanwhile(address, "clients that send half a head", f"POST {CHAT} HTTP/1.1\r\nhost: 127")


async def _meanwhile(address: Address, name: str, sent: str) -> Check:
    connections = [Connection(address) for _ in range(100)]
    for connection in connections:
        await connection.__aenter__()
        await connection.send(sent.encode())
    begin = time.perf_counter()
    well = await is_well(address)
    seconds = time.perf_counter() - begin
    for connection in connections:
        await connection.__aexit__(None, None, None)
    passed = well and seconds < QUICK_SECONDS
    return Check(f"100 {name} hold up nobody", passed, f"{seconds:.2f} s", f"< {QUICK_SECONDS} s")


async def _big_without_length(address: Address) -> Check:
    """A body that announces no length is measured while it comes."""
    name = "10 MB in chunks"

    async def send() -> Answer:
        async with Connection(address) as connection:
            head = f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1:{address.port}\r\nauthorization: Bearer {address.api_key}"
            await connection.send(f"{head}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
            try:
                for _ in range(160):
                    await connection.send(b"10000\r\n" + b" " * 65536 + b"\r\n")
                await connection.send(b"0\r\n\r\n")
            except ConnectionError:
                pass  # it has answered already, and closed
            return await connection.answer()

    try:
        answer = await send()
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        return Check(name, await is_well(address), f"closed: {type(error).__name__}", "413, or closed")
    return Check(name, answer.status == 413 and await is_well(address), str(answer.status), "413, or closed")


async def _wrong_keys_hold_nothing(address: Address) -> Check:
    """A wrong key is told at once, and who then goes on sending is left alone."""
    head = f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1:{address.port}\r\nauthorization: Bearer wrong"
    begin = time.perf_counter()
    async with Connection(address) as connection:
        await connection.send(f"{head}\r\ncontent-length: 1000000000\r\n\r\n".encode())
        answer = await connection.answer()
        told = time.perf_counter() - begin
        try:
            while time.perf_counter() - begin < 30:
                await connection.send(b" " * 1000)
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass  # nobody is there any more
    held = time.perf_counter() - begin
    passed = answer.status == 401 and told < CANCEL_SECONDS and held < HELD_SECONDS
    found = f"{answer.status} after {told:.3f} s, the connection ended after {held:.1f} s"
    return Check("a wrong key holds nothing", passed, found, f"401 within {CANCEL_SECONDS} s, {HELD_SECONDS} s")


async def _wrong_keys_reach_nothing(address: Address) -> Check:
    """Wrong keys leave no trace in the model's counters."""
    before = await counters(address)
    wrong = Address(address.port, api_key="wrong")
    statuses = {(await ask(wrong, "POST", CHAT, HELLO))[0] for _ in range(200)}
    after = await counters(address)
    names = ("gemcut_prompt_tokens_total", "gemcut_reused_tokens_total", "gemcut_generated_tokens_total")
    same = all(before.get(name) == after.get(name) for name in names)
    return Check("200 wrong keys reach no model", statuses == {401} and same, f"{statuses}, {same}", "401, no tokens")
