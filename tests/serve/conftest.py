"""A small random model behind a real server on a free port of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gemcut.generate import TextModel

CONTEXT = 2000
MODEL = "tiny"


@pytest.fixture(scope="session")
def tiny(write_tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextModel]:
    """The model on the native engine; its text is noise."""
    from gemcut.engine import NativeCheckpoint, NativeLanguageModel
    from gemcut.text import chat_template_for, load_tokenizer

    folder = write_tiny_model(tmp_path_factory.mktemp("tiny") / MODEL, max_position_embeddings=CONTEXT)
    with NativeCheckpoint(folder) as checkpoint:
        engine_model = NativeLanguageModel(checkpoint, threads=1)
    tokenizer = load_tokenizer(folder)
    template = chat_template_for(tokenizer, "gemma3_text", where=MODEL)
    yield TextModel(engine_model, tokenizer, template, name=MODEL)
    engine_model.close()


@dataclasses.dataclass
class Running:
    """A server in a thread of its own.

    Attributes:
        url: Where it answers.
        server: Its state; read it only, or call it by `call`.
        loop: Its event loop.
        client: Asks it.
        num_lost: What `run` returned; None while it runs.
    """

    url: str
    server: Any
    loop: asyncio.AbstractEventLoop
    client: httpx2.Client
    stop: Callable[[], None]
    join: Callable[[], None]
    num_lost: int | None = None
    connections: list[socket.socket] = dataclasses.field(default_factory=list)

    def chat(self, content: str = "Hi", **fields: Any) -> httpx2.Response:
        """The answer to one user message."""
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 8, **fields}
        return self.client.post("/v1/chat/completions", json=body)

    def complete(self, prompt: Any = "Hi", **fields: Any) -> httpx2.Response:
        """What follows a prompt."""
        return self.client.post("/v1/completions", json={"prompt": prompt, "max_tokens": 8, **fields})

    def events(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """The events of a stream, which ends as it should."""
        with self.client.stream("POST", path, json={"stream": True, **body}) as response:
            response.read()
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        *events, done, end = response.text.split("\n\n")
        assert (done, end) == ("data: [DONE]", "")
        return [json.loads(event.removeprefix("data: ")) for event in events if not event.startswith(":")]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The engine does nothing inside the block."""
        begun, go_on = threading.Event(), threading.Event()

        def wait() -> None:
            begun.set()
            go_on.wait(20)

        asyncio.run_coroutine_threadsafe(self.server.engine.call(wait), self.loop)
        assert begun.wait(20)
        try:
            yield
        finally:
            go_on.set()

    def until(self, is_true: Callable[[], bool]) -> None:
        """Wait until something holds; the server is asked meanwhile, so time goes by."""
        deadline = time.monotonic() + 20
        while not is_true():
            assert time.monotonic() < deadline
            assert self.client.get("/health").status_code in (200, 503)

    def connect(self) -> socket.socket:
        """A connection, for bytes as they are."""
        connection = socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])), timeout=20)
        self.connections.append(connection)
        return connection

    def send(self, path: str, *, headers: dict[str, str] | None = None, **body: Any) -> socket.socket:
        """A connection on which a request has been sent and nothing read."""
        data = json.dumps(body).encode()
        lines = [f"{name}: {value}" for name, value in (headers or {}).items()]
        head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(data)}", *lines, "", ""]
        connection = self.connect()
        connection.sendall("\r\n".join(head).encode() + data)
        return connection

    @staticmethod
    def read_all(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case and body of an answer, after which the connection ends."""
        head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body

    def metric(self, name: str) -> float:
        """The value of a metric, over all its labels."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.partition("{")[0].split(" ")[0] == name)


@pytest.fixture(scope="session")
def launch() -> Callable[..., tuple[subprocess.Popen[str], str]]:
    """Start `gemcut serve` of a folder as a process; gives it, once it serves, and its standard error so far."""

    def begin(folder: Path, *options: str, **environment: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "gemcut", "serve", str(folder), *options],
            env={**os.environ, "GEMCUT_CACHE": str(folder.parent / "cache"), **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        said = ""
        while "  try " not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        return process, said

    return begin


@contextlib.contextmanager
def running(load: Callable[[Any], list[Any]], settings: Any, *, is_waited_for: bool = True) -> Iterator[Running]:
    """A server with these settings, until the end of the block."""
    from gemcut.serve.process import listen, run

    found: dict[str, Any] = {}
    begun, ready = threading.Event(), threading.Event()

    def on_ready(server: Any, url: str) -> None:
        found["running"].server = server
        assert url == found["running"].url
        ready.set()

    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = httpx2.Client(base_url=url, timeout=30)
        found["running"] = Running(url, None, loop, client, lambda: loop.call_soon_threadsafe(stop.set), thread.join)
        begun.set()
        found["running"].num_lost = await run(
            settings, listener, lambda: load(settings), on_ready, stop, asyncio.Event()
        )

    with contextlib.closing(listen(settings)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        assert begun.wait(20)
        server: Running = found["running"]
        assert not is_waited_for or ready.wait(20)
        try:
            yield server
        finally:
            server.client.close()
            for connection in server.connections:
                connection.close()
            if thread.is_alive():
                server.stop()
            thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def start(tiny: TextModel) -> Callable[..., contextlib.AbstractContextManager[Running]]:
    """Start a server of the tiny model with these settings; a context manager."""
    from gemcut.serve.loading import load_served
    from gemcut.serve.settings import ServerSettings

    def load_tiny(settings: Any) -> list[Any]:
        limits = {"parallel": settings.parallel, "max_waiting": settings.max_waiting}
        return load_served(MODEL, {"odd": Path("odd")}, lambda _: tiny, **limits)

    def begin(
        load: Callable[[Any], list[Any]] = load_tiny, is_waited_for: bool = True, **settings: Any
    ) -> contextlib.AbstractContextManager[Running]:
        chosen = ServerSettings(**{"port": 0, "drain_seconds": 20.0} | settings)
        return running(load, chosen, is_waited_for=is_waited_for)

    return begin


@pytest.fixture(scope="session")
def served(start: Callable[..., contextlib.AbstractContextManager[Running]]) -> Iterator[Running]:
    """A server that the tests share."""
    with start() as server:
        yield server
