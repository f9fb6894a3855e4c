"""One request on its way, and what the log and the metrics learn of it."""

from __future__ import annotations

import dataclasses
import re
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.types import Scope

from gemcut.generate.scheduler import Update
from gemcut.generate.sequence import Sequence as TextSequence

if TYPE_CHECKING:
    from gemcut.serve.metrics import Metrics

_KEY = "gemcut.exchange"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/-]{1,128}")


@dataclasses.dataclass(eq=False)
class Exchange:
    """A request, from its arrival to the last byte of its answer.

    Attributes:
        request_id: The client's own, or a new one.
        method, path: As asked.
        client: Whose it is, as far as can be told: the address, and which key it had.
        arrived: In seconds of `time.monotonic`.
        status: HTTP status of the answer; 0 before it begins, 499 for a client that left first.
        model: Name of the model that answers.
        sequences: The texts that it has asked for.
        first_token_seconds: From the arrival to the first token.
        error_code: What went wrong, in a word.
        is_read: Whether its body has come whole.
        is_work: Whether a drain waits for it.
    """

    request_id: str
    method: str
    path: str
    client: str = ""
    arrived: float = dataclasses.field(default_factory=time.monotonic)
    status: int = 0
    model: str | None = None
    sequences: Sequence[TextSequence] = ()
    first_token_seconds: float | None = None
    error_code: str | None = None
    is_read: bool = False
    is_work: bool = False
    _last_token: dict[int, float] = dataclasses.field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Since it arrived."""
        return time.monotonic() - self.arrived

    def observe(self, metrics: Metrics, update: Update) -> None:
        """Measure what came of one of its texts."""
        name, now = self.model or "", time.monotonic()
        if update.token_ids or update.finished:
            before = self._last_token.get(id(update.sequence))
            if before is None:
                metrics.first_token(name, now - self.arrived)
                if self.first_token_seconds is None:
                    self.first_token_seconds = now - self.arrived
            elif update.token_ids:
                metrics.next_tokens(name, len(update.token_ids), now - before)
            self._last_token[id(update.sequence)] = now
        if update.finished:
            metrics.text_ended(name, update.sequence.finish_reason or "")

    def facts(self) -> dict[str, Any]:
        """What the log says of it."""
        facts: dict[str, Any] = {
            "request_id": self.request_id,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "seconds": round(self.seconds, 4),
        }
        if self.error_code:
            facts["error"] = self.error_code
        if self.sequences:
            facts |= {
                "model": self.model,
                "prompt_tokens": sum(len(sequence.prompt_ids) for sequence in self.sequences),
                "reused_tokens": sum(sequence.num_reused for sequence in self.sequences),
                "completion_tokens": sum(sequence.num_generated for sequence in self.sequences),
                "finish_reason": ",".join(sorted({sequence.finish_reason or "none" for sequence in self.sequences})),
            }
            if self.first_token_seconds is not None:
                facts["first_token_seconds"] = round(self.first_token_seconds, 4)
        return facts


def new_exchange(scope: Scope) -> Exchange:
    """The exchange of a request that has just arrived; kept in its scope."""
    given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
    request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
    host, _ = scope.get("client") or ("", 0)
    scope[_KEY] = exchange = Exchange(request_id, scope["method"], scope["path"], host)
    return exchange


def exchange_in(scope: Scope) -> Exchange:
    """The exchange of a request's scope."""
    return scope[_KEY]


def exchange_of(request: Request) -> Exchange:
    """The exchange that a request belongs to."""
    return exchange_in(request.scope)
