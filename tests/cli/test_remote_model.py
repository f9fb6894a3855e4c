"""`gemcut chat --server`: against a small server that says what a test wants."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Answering(BaseHTTPRequestHandler):
    """Answers with what the server object holds, and notes what came."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._note(b"")
        status, cards = self.server.models
        self._send(status, json.dumps(cards).encode())

    def do_POST(self):
        self._note(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(*self.server.answer)

    def _note(self, body):
        self.server.asked.append((self.path, dict(self.headers), json.loads(body) if body else None))

    def _send(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


def stream(*events, end=b"data: [DONE]\n\n"):
    return b": a comment\n\n" + b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events) + end


def said(text, reason=None, **more):
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason, **more}]}


USAGE = {
    "choices": [],
    "usage": {"prompt_tokens": 20, "completion_tokens": 3},
    "timings": {"prompt_tokens_per_second": 200.0, "tokens_per_second": 30.0},
}
MODELS = {"data": [{"id": "one", "engine": "native", "is_chat": True}, {"id": "base", "is_chat": False}, {"id": "two"}]}


@pytest.fixture
def remote():
    """A server; `asked` lists the requests."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.asked, server.models = [], (200, MODELS)
    server.answer = 200, stream(said("Mer", token_ids=[5]), said("cury", "stop", token_ids=[6, 7]), USAGE)
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_history_and_options_go_to_the_server(remote, invoke):
    result = invoke(
        "chat", "--server", remote.url, "--system", "Brief.", "--temperature", "0.5", "--stop", "x", stdin="one\ntwo\n"
    )
    assert result.stdout == "Mercury\nMercury\n"
    assert "engine native" in result.stderr
    assert "prompt 20 tokens, 200.0 tok/s; answer 3 tokens, 30.0 tok/s (stop)" in result.stderr
    path, _, body = remote.asked[-1]
    assert path == "/v1/chat/completions"
    assert [message["content"] for message in body["messages"]] == ["Brief.", "one", "Mercury", "two"]
    assert (body["model"], body["temperature"], body["stop"], body["max_tokens"]) == ("one", 0.5, ["x"], 1024)


def test_a_model_by_name_with_a_key(remote, invoke):
    result = invoke(
        "chat", "--server", remote.url + "/v1/", "--model", "two", "--api-key", "k", "--json", stdin="one\n"
    )
    assert json.loads(result.stdout) == {
        "text": "Mercury", "token_ids": [5, 6, 7], "finish_reason": "stop",
        "usage": {"prompt_tokens": 20, "completion_tokens": 3}, "engine": "remote",
    }  # fmt: skip
    assert all(headers["Authorization"] == "Bearer k" for _, headers, _ in remote.asked)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["./m"], 2, "./m: --server has its own models", id="two-models"),
        pytest.param(["--model", "no"], 4, "no such model, expected one of one, base, two", id="name"),
        pytest.param(["--model", "base"], 2, "this is a base model", id="base"),
    ],
)
def test_what_makes_no_sense(remote, invoke, arguments, code, message):
    result = invoke("chat", "--server", remote.url, *arguments, stdin="one\n")
    assert result.exit_code == code
    assert message in result.stderr


def test_urls_and_names_without_a_server(invoke):
    assert "not a URL" in invoke("chat", "--server", "nonsense").stderr
    refused = invoke("chat", "--server", "http://127.0.0.1:9")
    assert (refused.exit_code, "cannot be reached" in refused.stderr) == (1, True)
    assert "--model a: it goes with --server" in invoke("chat", "--model", "a").stderr


@pytest.mark.parametrize(
    ("models", "code", "message"),
    [
        pytest.param((200, {"data": []}), 1, "no list of models", id="none"),
        pytest.param((200, [1]), 1, "no list of models", id="list"),
        pytest.param((401, {"error": {"message": "no valid key"}}), 2, "no valid key Give --api-key KEY.", id="key"),
        pytest.param((502, "bad"), 1, "HTTP 502", id="proxy"),
    ],
)
def test_servers_that_do_not_list_models(remote, invoke, models, code, message):
    remote.models = models
    result = invoke("chat", "--server", remote.url, stdin="one\n")
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param((429, b'{"error": {"message": "Ask again in a moment."}}'), "Ask again in a moment.", id="full"),
        pytest.param((200, stream(said("Mer"), {"error": {"message": "It failed."}})), "It failed.", id="in-stream"),
        pytest.param((200, stream(said("Mer"), end=b"")), "the answer broke off", id="cut"),
        pytest.param((200, b"data: nonsense\n\n"), "is no event", id="nonsense"),
    ],
)
def test_a_failed_turn_is_taken_back(remote, invoke, answer, message):
    remote.answer = answer
    result = invoke("chat", "--server", remote.url, stdin="one\n/undo\n")
    assert message in result.stderr
    assert "There is nothing to take back." in result.stderr
