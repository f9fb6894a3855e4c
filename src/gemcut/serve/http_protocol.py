"""HTTP/1.1 by uvicorn, with our errors for what is no request, and connections that end so that the answer arrives."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from gemcut.serve.errors import error_body
from gemcut.serve.json_response import json_bytes

logger = logging.getLogger("gemcut.serve")
LINGER_SECONDS = 2.0


class HttpProtocol(H11Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._lingering = LingeringTransport(transport, self)
        super().connection_made(self._lingering)  # type: ignore[arg-type]  # it is one in all that is used of it

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._lingering.ended()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`; what comes after the answer to a refused request is thrown away."""
        if not self._lingering.is_closing():
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """The answer to what is no HTTP request, in the one shape; called where h11's error is handled."""
        status = getattr(sys.exception(), "error_status_hint", 400)
        logger.info("%s %s (%s)", msg, sys.exception(), status)
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json_bytes(error_body(f"request: {sys.exception()}.", status, code="invalid_request"))
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("connection", "close"),
            ]
            for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def on_response_complete(self) -> None:
        """Called once an answer is out; where the request has not come whole, the connection ends with it."""
        if self.has_unread:
            self.transport.close()
        super().on_response_complete()

    @property
    def has_unread(self) -> bool:
        """Whether the client may still be sending what nobody reads any more."""
        return self.conn.their_state in (h11.SEND_BODY, h11.ERROR)


class LingeringTransport:
    """A connection that ends politely: it says at once that nothing more comes, and reads on for a moment.

    One that is closed with something unread is reset, and the answer to a client that still sends may be lost on its
    way. Source: RFC 9112, section 9.6.

    Args:
        transport: What it stands for.
        protocol: Knows whether the client still sends.
    """

    def __init__(self, transport: Any, protocol: HttpProtocol) -> None:
        self._transport, self._protocol = transport, protocol
        self._end: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing more is sent."""
        return self._end is not None or self._transport.is_closing()

    def close(self) -> None:
        """End it; at once, unless the client still sends."""
        if self._end is not None:
            return
        if self._transport.is_closing() or not self._protocol.has_unread:
            self._transport.close()
            return
        self._end = self._protocol.loop.call_later(LINGER_SECONDS, self._transport.close)
        cycle = self._protocol.cycle
        if cycle is not None and not cycle.response_complete:  # nobody waits for what it would still read
            cycle.disconnected = True
            cycle.message_event.set()
        self._transport.write_eof()
        self._protocol.flow.resume_reading()

    def ended(self) -> None:
        """The connection is gone."""
        if self._end is not None:
            self._end.cancel()
