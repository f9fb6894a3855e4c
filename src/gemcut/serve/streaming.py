"""Server-sent events, and clients that leave or stop reading."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from gemcut.serve.json_response import json_bytes

DONE = b"data: [DONE]\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
_COMMENT = b": keep-alive\n\n"
Result = TypeVar("Result")


class ClientGoneError(Exception):
    """The client closed its connection before the answer was complete; nobody is left to be told."""


class ClientStalledError(Exception):
    """The client keeps its connection and reads nothing."""


def event(value: Any) -> bytes:
    """One event of a stream."""
    return b"data: " + json_bytes(value) + b"\n\n"


class EventStream:
    """An ASGI response that sends events while they come.

    Args:
        events: Bytes of one event or several; closed when the stream ends, however it ends.
        keep_alive_seconds: After so long without an event a comment is sent; 0 for never.
        stall_seconds: How long the client may read nothing.
        on_lost: Told "client_gone" or "client_stalled" when the client is not there to the end.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        *,
        keep_alive_seconds: float,
        stall_seconds: float,
        on_lost: Callable[[str], None],
    ) -> None:
        self._events, self._on_lost = events, on_lost
        self._keep_alive_seconds = keep_alive_seconds
        self._stall_seconds = stall_seconds
        self._last_sent = time.monotonic()
        self._sending_since: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or stop when the client goes."""
        self._send = send
        try:
            await _while_connected(receive, self._send_all(), self._watch())
        except ClientGoneError:
            self._on_lost("client_gone")
        except ClientStalledError:  # an answer that stays incomplete closes the connection
            self._on_lost("client_stalled")
        finally:
            await self._events.aclose()

    async def _send_all(self) -> None:
        await self._write({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        async with contextlib.aclosing(self._events) as events:
            async for data in events:
                await self._write(_body(data))
        await self._write(_body(b"", more=False))

    async def _watch(self) -> None:
        """Notice a send that does not end; and where nothing is sent, say now and then that there is still somebody."""
        keep_alive = self._keep_alive_seconds or math.inf
        while True:
            now = time.monotonic()
            if self._sending_since is not None:
                rest = self._sending_since + self._stall_seconds - now
                if rest <= 0:
                    raise ClientStalledError
            else:
                rest = self._last_sent + keep_alive - now
                if rest <= 0:
                    await self._write_comment()
                    rest = keep_alive
            await asyncio.sleep(min(rest, keep_alive, self._stall_seconds))

    async def _write_comment(self) -> None:
        try:
            async with asyncio.timeout(self._stall_seconds):
                await self._write(_body(_COMMENT))
        except TimeoutError:
            raise ClientStalledError from None

    async def _write(self, message: Message) -> None:
        self._sending_since = time.monotonic()
        await self._send(message)
        self._sending_since, self._last_sent = None, time.monotonic()


def _body(data: bytes, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def answer_while_connected(request: Request, answer: Coroutine[Any, Any, Result]) -> Result:
    """What `answer` returns, unless the client leaves first.

    Raises:
        ClientGoneError: the client left; `answer` was cancelled.
    """
    return await _while_connected(request.receive, answer)


async def _while_connected(receive: Receive, main: Coroutine[Any, Any, Result], *others: Coroutine) -> Result:
    """The result of `main`; everything is cancelled when the client leaves or one of `others` raises."""
    task = asyncio.ensure_future(main)
    helpers = [asyncio.ensure_future(_until_disconnect(receive)), *map(asyncio.ensure_future, others)]
    try:
        await asyncio.wait([task, *helpers], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            for helper in helpers:
                if helper.done():
                    helper.result()
        return await task
    finally:
        for other in (task, *helpers):
            other.cancel()
        await asyncio.gather(task, *helpers, return_exceptions=True)


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # what is left of the body
    raise ClientGoneError
