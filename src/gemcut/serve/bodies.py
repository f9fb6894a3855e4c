"""Request bodies: how long, how deep, and in JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pydantic_core
from starlette.requests import Request

from gemcut.serve.errors import RequestError
from gemcut.serve.exchange import exchange_of

MAX_DEPTH = 64
MAX_BODY_SECONDS = 60.0


async def read_json(request: Request, max_bytes: int) -> Any:
    """The body as Python values.

    Raises:
        RequestError: it is too long (413), too slow (408), not UTF-8, not JSON, or too deep.
        ClientDisconnect: the client has gone.
    """
    try:
        async with asyncio.timeout(MAX_BODY_SECONDS):
            body = await _read(request, max_bytes)
            exchange_of(request).is_read = True
    except TimeoutError:
        raise RequestError(
            f"body: it was not complete after {MAX_BODY_SECONDS:g} seconds. Send it faster.",
            status=408,
            code="body_timeout",
        ) from None
    return parse_json(body)


def parse_json(body: bytes) -> Any:
    """A JSON document as Python values.

    Raises:
        RequestError: it is not UTF-8, not JSON, or too deep.
    """
    try:
        value = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(f"body: not JSON in UTF-8 ({error}). Correct it.", code="invalid_json") from None
    _check_depth(value)
    return value


async def _read(request: Request, max_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_long(announced, max_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise _too_long(f"more than {max_bytes}", max_bytes)
    return bytes(body)


def _too_long(found: str, max_bytes: int) -> RequestError:
    return RequestError(
        f"body: it has {found[:30]} bytes, but this server takes {max_bytes}. Send less, or raise --max-body.",
        status=413,
        code="body_too_large",
    )


def _check_depth(value: Any) -> None:
    """Refuse values nested deeper than any request needs, without recursion."""
    level = _nested([value])
    for _ in range(MAX_DEPTH):
        if not level:
            return
        level = [inner for outer in level for inner in _nested(outer.values() if isinstance(outer, dict) else outer)]
    raise RequestError(f"body: nested deeper than {MAX_DEPTH} levels, expected a flatter document.", code="too_deep")


def _nested(values: Iterable[Any]) -> list[dict[str, Any] | list[Any]]:
    return [value for value in values if isinstance(value, dict | list)]
