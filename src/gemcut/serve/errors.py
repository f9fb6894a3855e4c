"""The one shape of every error that a client sees: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import asyncio
import http
import re
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from gemcut.errors import ContextLengthError, GemcutError, NotFoundError, UsageError
from gemcut.serve.exchange import exchange_of
from gemcut.serve.json_response import JsonResponse

MAX_MESSAGE = 1000  # characters; a request's own text in an error stays short
MAX_SHOWN = 80
_FIELD_FIRST = re.compile(r"([a-z_]+(?:\[\d+\])*)(?: is |: )")


class RequestError(UsageError):
    """A request that is refused.

    Args:
        message: What is wrong with it.
        status: HTTP status.
        param: The field at fault, such as "messages[0].role".
        code: A word that programs can ask for.
        headers: More headers of the answer.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = "invalid_value",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.http_status, self.param, self.code = status, param, code
        self.headers = dict(headers or {})


def unavailable(message: str, code: str, retry_after_seconds: int) -> RequestError:
    """The answer while the server loads or drains."""
    return RequestError(message, status=503, code=code, headers={"retry-after": str(retry_after_seconds)})


def shown(value: Any) -> str:
    """A value of the request as it may stand in an error."""
    text = repr(value if not isinstance(value, str) else value[:MAX_SHOWN])
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def field_of(message: str) -> str | None:
    """The field that a message begins with ("top_p is 3, expected ...")."""
    found = _FIELD_FIRST.match(message)
    return found[1] if found else None


def error_body(message: str, status: int, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The body of an error."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    # A lone surrogate of the request cannot be sent.
    text = message[:MAX_MESSAGE].encode("utf-8", "replace").decode("utf-8")
    return {"error": {"message": text, "type": kind, "param": param, "code": code}}


def is_failure(error: BaseException) -> bool:
    """Whether an error is one of the work's own; the others end a task or the process. A Rust panic is one."""
    return not isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt | SystemExit)


def describe(error: BaseException) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and further headers of the answer to a failed request."""
    if isinstance(error, RequestError):
        return (
            error.http_status,
            error_body(str(error), error.http_status, param=error.param, code=error.code),
            (error.headers),
        )
    if isinstance(error, HTTPException):
        return _described_http(error)
    if not isinstance(error, GemcutError):
        return 500, error_body("The server failed; its log says why.", 500, code="internal_error"), {}
    status = error.http_status
    param = field_of(str(error)) if status == 400 else None
    return status, error_body(str(error), status, param=param, code=_code(error)), {}


def error_response(error: BaseException) -> JsonResponse:
    """The answer to a failed request."""
    status, body, headers = describe(error)
    return JsonResponse(body, status, headers)


async def handle_error(request: Request, error: Exception) -> JsonResponse:
    """`error_response` as starlette wants it; a path or method that does not exist is named."""
    if isinstance(error, HTTPException) and error.status_code in (404, 405):
        what = f"{request.method} {request.scope['path'][:200]}"
        reason = "there is no such path" if error.status_code == 404 else "this path takes other methods"
        code = "path_not_found" if error.status_code == 404 else "method_not_allowed"
        message = f"{what}: {reason}. GET /openapi.json lists what there is."
        error = RequestError(message, status=error.status_code, code=code, headers=error.headers)
    status, body, headers = describe(error)
    exchange_of(request).error_code = body["error"]["code"]
    return JsonResponse(body, status, headers)


def _described_http(error: HTTPException) -> tuple[int, dict[str, Any], dict[str, str]]:
    phrase = error.detail or http.HTTPStatus(error.status_code).phrase
    return error.status_code, error_body(f"{phrase}.", error.status_code), dict(error.headers or {})


def _code(error: GemcutError) -> str:
    if isinstance(error, ContextLengthError):
        return "context_length_exceeded"
    if isinstance(error, NotFoundError):
        return "not_found"
    return "invalid_value" if error.http_status < 500 else "engine_error"
