"""What every request passes around its endpoint: it is named and timed, and only whom the settings allow comes in.

Whatever goes wrong inside, its answer is an error of the one shape. Of the body of a refused request nothing is read.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gemcut.serve.errors import RequestError, error_response, is_failure, unavailable
from gemcut.serve.exchange import Exchange, exchange_in, new_exchange
from gemcut.serve.server import Server
from gemcut.serve.settings import ServerSettings, is_loopback

logger = logging.getLogger("gemcut.serve")
# Open without a key: the page, which asks for one, and what orchestrators and scrapers read.
_PUBLIC_PATHS = frozenset({"/", "/health", "/ready", "/metrics", "/openapi.json"})
_PUBLIC_PREFIX = "/page/"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")


class Gate:
    """The outermost layer: an ASGI application around another one.

    Args:
        app: Answers what is let in.
        server: Whose requests these are.
    """

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app, self._server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens, and note it."""
        if scope["type"] != "http":
            return await _refuse_other(scope, receive, send)
        exchange = new_exchange(scope)

        async def noting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", exchange.request_id.encode())]
                if self._server.is_draining or (exchange.status >= 400 and not exchange.is_read and _has_body(scope)):
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            await send(message)

        try:
            check_caller(scope, self._server.settings)
            await self._app(scope, receive, noting_send)
        except BaseException as error:
            refusal = _refusal(error)
            if is_failure(error) and not isinstance(error, RequestError):
                logger.error("%s failed", exchange.request_id, exc_info=error)
            exchange.error_code = getattr(refusal, "code", "internal_error")
            if not exchange.status:
                await error_response(refusal)(scope, receive, noting_send)
            if not is_failure(error):
                raise
        finally:
            self._note(exchange, scope)

    def _note(self, exchange: Exchange, scope: Scope) -> None:
        """Tell the log and the metrics of a request that has been answered."""
        self._server.end_work(exchange)
        route = getattr(scope.get("route"), "path", "other")
        metrics = self._server.metrics
        metrics.answered(route, exchange.status)
        if exchange.error_code is not None:
            metrics.failed(exchange.error_code)
        level = logging.DEBUG if route in _PUBLIC_PATHS or route.startswith(_PUBLIC_PREFIX) else logging.INFO
        facts = exchange.facts()
        if self._server.settings.log_prompts and exchange.sequences:
            facts["answers"] = [sequence.text for sequence in exchange.sequences]
        logger.log(level, "request", extra={"facts": facts})


class KeyCheck:
    """Lets in who has a key; behind the layer that answers other origins, so that those can read the refusal.

    Args:
        app: Answers what is let in.
        settings: Have the keys.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._digests = [_digest(key.encode()) for key in settings.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]
        if not self._digests or path in _PUBLIC_PATHS or path.startswith(_PUBLIC_PREFIX):
            return await self._app(scope, receive, send)
        if known := self._known(scope):
            exchange_in(scope).client += f" key {known[0]}"
            return await self._app(scope, receive, send)
        refusal = RequestError(
            'Authorization: no valid key, expected "Bearer KEY" with a key of this server.',
            status=401,
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )
        exchange_in(scope).error_code = refusal.code
        await error_response(refusal)(scope, receive, send)

    def _known(self, scope: Scope) -> list[int]:
        """Which of the keys a request has; none where it has no valid one."""
        given = _values(scope, b"authorization")
        kind, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        digest = _digest(key.strip())
        # All are compared, each in constant time: the answer's time tells nothing about a key.
        same = [hmac.compare_digest(digest, known) for known in self._digests]
        return [index for index, is_same in enumerate(same) if is_same and kind.lower() == b"bearer"]


def check_caller(scope: Scope, settings: ServerSettings) -> None:
    """Refuse what a web page has sent that is none of this server's.

    A page elsewhere can make its reader's browser call 127.0.0.1: under another name that leads there, which the Host
    header tells, or across origins, which the Origin header tells. A key stops both.

    Raises:
        RequestError: the host is not this server's name, or the origin not allowed (403).
    """
    hosts = [value.decode("latin-1") for value in _values(scope, b"host")]
    found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if hosts and found is None:
        raise RequestError("Host: not one name and port.", code="invalid_host")
    name = found[1].lower() if found else ""
    own = {host.lower() for host in (settings.host, *settings.allow_hosts)}
    if settings.is_local and name and not is_loopback(name) and name.strip("[]") not in own:
        raise RequestError(
            f"Host: {name!r:.80} is not a name of this server. Add it by --allow-host if it is.",
            status=403,
            code="host_not_allowed",
        )
    origins = [value.decode("latin-1") for value in _values(scope, b"origin")]
    if settings.api_keys or not origins or "*" in settings.allow_origins:
        return
    same = len(origins) == 1 and bool(hosts) and origins[0].partition("://")[2] == hosts[0]
    if not same and not set(origins) <= set(settings.allow_origins):
        raise RequestError(
            f"Origin: {origins[0]!r:.80} is not allowed. Add it by --allow-origin if it is your page.",
            status=403,
            code="origin_not_allowed",
        )


async def _refuse_other(scope: Scope, receive: Receive, send: Send) -> None:
    """There is nothing here but HTTP."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1003})


def _refusal(error: BaseException) -> BaseException:
    """What the client is told of an error; a request that is cancelled is cut off by the server's end."""
    if isinstance(error, asyncio.CancelledError):
        return unavailable("The server ended before the answer was complete.", "draining", 1)
    return error


def _has_body(scope: Scope) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") and value != b"0" for name, value in scope["headers"])


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
