"""A server that answers the page by a script: what its tests need to say what, and when."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gemcut.serve.page import page_routes

PAUSE = object()  # the answer waits here until `release`
BREAK = object()  # the connection ends here, before the answer does
MODEL: dict[str, Any] = {
    "id": "gemma-3-270m-it",
    "object": "model",
    "engine": "native",
    "dtype": "Q4_K_M",
    "context_length": 32768,
    "is_chat": True,
    "defaults": {"temperature": 1.0, "top_k": 64, "top_p": 0.95, "min_p": 0.0},
}
USAGE = {"prompt_tokens": 24, "completion_tokens": 180, "total_tokens": 204}
TIMINGS = {"prompt_tokens_per_second": 900.0, "tokens_per_second": 142.31, "time_to_first_token_seconds": 0.081}


class ScriptedServer:
    """Runs in a thread of its own on a free port of this machine until `close`."""

    def __init__(self) -> None:
        routes = [
            Route("/v1/models", self._models),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/health", self._health),
            *page_routes(),
        ]
        self.reset()
        # Listening already, so that whoever asks before the thread is ready only waits.
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(
            uvicorn.Config(Starlette(routes=routes), log_level="error", ws="none", lifespan="off")
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()

    def reset(self) -> None:
        """Back to one chat model, no key, and an answer of three parts."""
        self.models = [dict(MODEL)]
        self.key: str | None = None
        self.steps: list[Any] = ["Hello", ", **world", "**."]
        self.finish_reason = "stop"
        self.refusals: list[Response] = []
        self.requests: list[dict[str, Any]] = []
        self.num_cut = 0
        self._released = threading.Event()

    def answer(self, *steps: Any) -> None:
        """What the next answers consist of: texts, PAUSE, BREAK, or an error's object."""
        self.steps = list(steps)
        self._released = threading.Event()

    def refuse(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        """Have the next request for an answer refused."""
        body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
        self.refusals.append(
            JSONResponse(body, status, {name.replace("_", "-"): value for name, value in headers.items()})
        )

    def release(self) -> None:
        """Let answers go on behind PAUSE."""
        self._released.set()

    def close(self) -> None:
        """Stop and wait for it."""
        self._released.set()
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(10)
        self._socket.close()

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _models(self, request: Request) -> Response:
        return self._locked(request) or JSONResponse({"object": "list", "data": self.models})

    async def _chat(self, request: Request) -> Response:
        if locked := self._locked(request):
            return locked
        self.requests.append(await request.json())
        if self.refusals:
            return self.refusals.pop(0)
        return StreamingResponse(self._counted(self._events(list(self.steps))), media_type="text/event-stream")

    def _locked(self, request: Request) -> Response | None:
        if self.key is None or request.headers.get("Authorization") == f"Bearer {self.key}":
            return None
        body = {
            "error": {"message": "The API key is wrong.", "type": "authentication_error", "param": None, "code": None}
        }
        return JSONResponse(body, 401)

    async def _counted(self, events: AsyncIterator[str]) -> AsyncIterator[str]:
        is_whole = False
        try:
            async for event in events:
                yield event
            is_whole = True
        finally:
            self.num_cut += not is_whole

    async def _events(self, steps: list[Any]) -> AsyncIterator[str]:
        yield ": keep-alive\n\n"
        yield _event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for number, step in enumerate(steps, 1):
            if step is BREAK:
                return
            if step is PAUSE:
                released = self._released
                while not released.is_set():
                    await asyncio.sleep(0.005)
            elif isinstance(step, dict):
                yield _event({"error": step})
                return
            else:
                usage = {**USAGE, "completion_tokens": number}
                yield _event({"choices": [{"index": 0, "delta": {"content": step}}], "usage": usage})
        yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": self.finish_reason}]})
        yield _event({"choices": [], "usage": USAGE, "timings": TIMINGS})
        yield "data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"
