"""The server's log on standard error: lines for people, or JSON."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any


class _Formatter(logging.Formatter):
    """A record as one line; a request's facts are its fields."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, Any] = getattr(record, "facts", {})
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        if self._as_json:
            line = {"time": moment, "level": record.levelname.lower(), "message": record.getMessage(), **facts}
            return json.dumps(line | ({"exception": trace} if trace else {}), ensure_ascii=True, default=str)
        named = " ".join(f"{name}={_word(value)}" for name, value in facts.items())
        message = record.getMessage().replace("\n", " ")
        return " ".join(filter(None, (moment, record.levelname, message, named))) + (f"\n{trace}" if trace else "")


def configure_logs(log_format: str) -> None:
    """Send the log to standard error in the given format, "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(log_format == "json"))
    root = logging.getLogger("gemcut")
    root.handlers, root.propagate = [handler], False
    root.setLevel(logging.WARNING)
    logging.getLogger("gemcut.serve").setLevel(logging.INFO)
    # What the application raises is logged where it happens; a connection that breaks off is no news.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)


def _word(value: Any) -> str:
    """A value as one word, quoted where it would not be one."""
    text = str(value)
    return text if text.isascii() and text.isprintable() and " " not in text and '"' not in text else json.dumps(text)
