"""Who wants much takes turns with who comes: between requests, and between clients as keys tell them apart."""

import json

import pytest

pytestmark = pytest.mark.native


@pytest.fixture
def ended(monkeypatch):
    """Note in which order the texts of a server end, by their `max_tokens`."""

    def watch(server):
        scheduler, order = server.server.opened().find(None).scheduler, []
        step = scheduler.step

        def noting_step():
            updates = step()
            order.extend(update.sequence.options.max_tokens for update in updates if update.finished)
            return updates

        monkeypatch.setattr(scheduler, "step", noting_step)
        return order

    return watch


def body(max_tokens, **fields):
    return {"prompt": "Hello there, how are you? " * 4, "max_tokens": max_tokens, "ignore_eos": True, **fields}


def test_many_samples_do_not_keep_other_requests_out(start, ended):
    with start(parallel=2) as server:
        order = ended(server)
        with server.held():
            many, *others = (submit(server, body(5, n=40)), submit(server, body(6)), submit(server, body(7)))
        answers = [json.loads(read_answer(connection)) for connection in (*others, many)]
        assert [len(answer["choices"]) for answer in answers] == [1, 1, 40]
        assert {*order[:4]} == {5, 6, 7}
        assert order.count(5) == 40
        # The samples still share their prompt: it is computed once, for all requests.
        assert server.metric("gemcut_prompt_tokens_total") < 42 + 2 * answers[0]["usage"]["prompt_tokens"]


def test_clients_take_turns(start, ended):
    """One key's four requests are there before the other's only one."""
    with start(parallel=2, api_keys=("one", "two")) as server:
        order = ended(server)
        with server.held():
            for max_tokens, key in ((11, "one"), (12, "one"), (13, "one"), (14, "one"), (5, "two")):
                submit(server, body(max_tokens), {"authorization": f"Bearer {key}"})
        server.until(lambda: server.server.num_working == 0)
        assert order == [5, 11, 12, 13, 14]


def submit(server, asked, headers=None):
    """Send a request to a server whose engine is held; it has come when the engine has one job more to do."""
    jobs = server.server.engine._jobs
    count = len(jobs)
    connection = server.send("/v1/completions", headers=headers, **asked)
    server.until(lambda: len(jobs) == count + 1)
    return connection


def read_answer(connection):
    """The body of an answer that ends with its connection or its length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, found = data.partition(b"\r\n\r\n")
    length = int(dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])[b"content-length"])
    while len(found) < length:
        found += connection.recv(65536)
    return found
