"""Answers in JSON, written fast and in UTF-8."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

_LINE_ENDS = (("\x85", "\\u0085"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029"))
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def json_bytes(value: Any) -> bytes:
    """`value` as one line of JSON, also for clients that split lines as Python does; a lone surrogate becomes "?"."""
    text = _encode(value)
    for character, escaped in _LINE_ENDS:
        if character in text:
            text = text.replace(character, escaped)
    return text.encode("utf-8", "replace")


class JsonResponse(Response):
    """A JSON document as a whole answer."""

    media_type = "application/json"

    def __init__(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(json_bytes(value), status, headers)
