"""Streams: clients that leave, that read nothing, that wait; errors after the first byte."""

import asyncio
import json
import threading
import time

import pytest

from gemcut.serve.streaming import EventStream

pytestmark = pytest.mark.native

LONG = {"prompt": "Hi", "max_tokens": 300, "ignore_eos": True, "temperature": 0}


def read_until(connection, wanted):
    """What a connection gives up to some bytes."""
    data = b""
    while wanted not in data:
        new = connection.recv(65536)
        assert new, data
        data += new
    return data


def cancelled(server):
    return server.metric("gemcut_requests_cancelled_total")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_client_that_leaves_frees_its_place(start, stream, monkeypatch):
    with start(parallel=1) as server:
        scheduler = server.server.opened().find(None).scheduler
        step, steps, reached, go_on = scheduler.step, [], threading.Event(), threading.Event()

        def pausing_step():
            steps.append(1)
            if len(steps) == 3:
                reached.set()
                go_on.wait(20)
            return step()

        monkeypatch.setattr(scheduler, "step", pausing_step)
        connection = server.send("/v1/completions", stream=stream, **LONG)
        assert reached.wait(20)
        assert server.metric("gemcut_texts_running") == 1
        connection.close()
        server.until(lambda: cancelled(server) == 1)
        go_on.set()
        server.until(lambda: server.metric("gemcut_texts_running") == 0)
        assert server.metric("gemcut_generated_tokens_total") < 100
        assert server.complete().status_code == 200


def test_a_client_that_leaves_while_it_waits_never_runs(start):
    with start(parallel=1) as server:
        with server.held():
            connection = server.send("/v1/completions", stream=False, **LONG)
            server.until(lambda: server.server.num_working == 1)
            connection.close()
            server.until(lambda: cancelled(server) == 1)
        server.until(lambda: server.server.num_working == 0)
        assert server.complete().status_code == 200
        assert server.metric("gemcut_generated_tokens_total") < 100


def test_a_silent_stream_says_that_it_lives():
    lost, sent, commented = [], [], asyncio.Event()

    async def events():
        yield b"data: 1\n\n"
        await commented.wait()
        yield b"data: 2\n\n"

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message.get("body"))
        if sent.count(b": keep-alive\n\n") == 2:
            commented.set()

    stream = EventStream(events(), keep_alive_seconds=0.01, stall_seconds=5, on_lost=lost.append)
    asyncio.run(stream({"type": "http"}, receive, send))
    assert [body for body in sent if body != b": keep-alive\n\n"] == [None, b"data: 1\n\n", b"data: 2\n\n", b""]
    assert sent[2:4] == [b": keep-alive\n\n"] * 2
    assert lost == []


def test_a_client_that_reads_nothing_is_let_go_and_stalls_nobody(start):
    with start(stall_seconds=0.3) as server:
        server.send("/v1/completions", stream=True, logprobs=20, n=4, **LONG | {"max_tokens": 1900})  # megabytes
        assert server.complete().status_code == 200
        server.until(lambda: cancelled(server) == 1)
        server.until(lambda: server.server.num_working == 0)


@pytest.mark.parametrize("stage", ["start", "event", "comment"])
def test_a_send_that_never_ends_is_a_stall(stage):
    """The kernel's buffers decide when a real connection blocks; here a send does."""
    lost, closed, sent = [], [], []

    async def events():
        try:
            yield b"data: 1\n\n"
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)
        if len(sent) == ["start", "event", "comment"].index(stage) + 1:
            await asyncio.Event().wait()

    stream = EventStream(events(), keep_alive_seconds=0.01, stall_seconds=0.02, on_lost=lost.append)
    asyncio.run(stream({"type": "http"}, receive, send))
    assert lost == ["client_stalled"]
    assert closed == [True] * (stage != "start")  # one that never began has nothing to end


def break_engine(server, monkeypatch, after):
    """Let the engine fail in its `after`-th pass from now."""
    runner, passes = server.server.opened().find(None).scheduler._runner, []

    def run(*arguments):
        passes.append(arguments)
        if len(passes) > after:
            raise MemoryError("no room")
        return type(runner).run(runner, *arguments)

    monkeypatch.setattr(runner, "run", run)


def test_an_error_in_the_middle_of_a_stream_is_its_last_event(start, monkeypatch):
    with start() as server:
        break_engine(server, monkeypatch, after=3)
        events = server.events("/v1/completions", **LONG)
        assert events[0]["choices"][0]["text"]
        assert events[-1]["error"]["type"] == "server_error"
        assert events[-1]["error"]["code"] == "engine_error"
        whole = server.complete()
        assert whole.status_code == 500
        assert whole.json()["error"]["message"] == "The engine failed; the server's log says why."
        monkeypatch.undo()
        assert server.complete().status_code == 200
        assert server.metric("gemcut_errors_total") == 2


def test_a_request_that_takes_too_long_ends(start):
    with start(max_seconds=0.05) as server:
        with server.held():
            connection = server.send("/v1/completions", stream=True, **LONG)
            server.until(lambda: server.server.num_working == 1)
            deadline = [exchange.arrived + 0.06 for exchange in server.server._work]
            server.until(lambda: time.monotonic() > deadline[0])
        assert b'"code":"timeout"' in read_until(connection, b"data: [DONE]\n\n")


def test_a_whole_answer_that_takes_too_long_is_504(start):
    with start(max_seconds=0.000001) as server:
        response = server.complete()
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "timeout"
        assert response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "options", [None, {"include_usage": False}, {"include_usage": True}], ids=["none", "no", "yes"]
)
def test_usage_is_null_until_the_last_event_where_it_is_asked_for(served, options):
    events = served.events("/v1/completions", prompt="Hi", max_tokens=5, ignore_eos=True, stream_options=options)
    if options and options["include_usage"]:
        assert [event["usage"] for event in events[:-1]] == [None] * (len(events) - 1)
        assert (events[-1]["choices"], events[-1]["usage"]["completion_tokens"]) == ([], 5)
    else:
        assert not any("usage" in event for event in events)


def test_no_event_has_what_some_clients_take_for_the_end_of_a_line(served):
    text = "a\u2028b\u2029c\x85d\x0be\x1cf"
    body = {"prompt": "Hi", "regex": text, "max_tokens": 60, "stream": True}
    with served.client.stream("POST", "/v1/completions", json=body) as response:
        lines = [line for line in response.read().decode().splitlines() if line]
    *events, done = [line.removeprefix("data: ") for line in lines]
    assert done == "[DONE]"
    assert "".join(json.loads(event)["choices"][0]["text"] for event in events) == text


def test_continuous_usage_grows(served):
    options = {"include_usage": True, "continuous_usage_stats": True}
    *events, last = served.events("/v1/completions", prompt="Hi", max_tokens=9, ignore_eos=True, stream_options=options)
    counts = [event["usage"]["completion_tokens"] for event in events]
    assert counts == sorted(counts)
    assert counts[-1] == last["usage"]["completion_tokens"] == 9
