"""Texts that grow, as the two forms of an answer: one JSON document, or a stream of events."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from gemcut.errors import BackendError, GemcutError
from gemcut.generate.scheduler import Update
from gemcut.generate.sequence import Sequence as TextSequence
from gemcut.serve.engine_thread import Generation
from gemcut.serve.errors import RequestError, describe, is_failure
from gemcut.serve.exchange import exchange_of
from gemcut.serve.json_response import JsonResponse, json_bytes
from gemcut.serve.requests import GenerationRequest
from gemcut.serve.responses import new_id, usage_of
from gemcut.serve.served_models import ServedModel
from gemcut.serve.server import Server
from gemcut.serve.streaming import DONE, EventStream, answer_while_connected, event

logger = logging.getLogger("gemcut.serve")


class Choice(Protocol):
    """One text of an answer, in the endpoint's own form."""

    def push(self, update: Update) -> list[dict[str, Any]]:
        """What a stream says of an update: the parts of a choice but its index, in order."""

    def whole(self) -> dict[str, Any]:
        """The finished choice but its index."""


class Answer:
    """The answer to one request.

    Args:
        kind: "chat.completion" or "text_completion".
        server: Serves it.
        request: The request.
        asked: What it asks.
        model: Answers.
        choices: One for each text of `generation`, in order.
        generation: The texts.
    """

    def __init__(
        self,
        kind: str,
        server: Server,
        request: Request,
        asked: GenerationRequest,
        model: ServedModel,
        choices: Sequence[Choice],
        generation: Generation,
    ) -> None:
        self._server, self._request = server, request
        self._asked, self._choices, self._generation = asked, choices, generation
        self._exchange = exchange_of(request)
        is_chat = kind == "chat.completion"
        self._head = {
            "id": new_id("chatcmpl" if is_chat else "cmpl"),
            "object": kind + (".chunk" if is_chat and asked.stream else ""),
            "created": int(time.time()),
            "model": model.name,
            "system_fingerprint": model.fingerprint,
        }
        self._opening = b"data: " + json_bytes(self._head)[:-1]

    async def respond(self) -> Any:
        """The answer in the form that was asked for, as an ASGI response; it stops when the client leaves.

        Raises:
            GemcutError: a text failed before anything was sent.
            ClientGoneError: the client left before that.
        """
        settings = self._server.settings
        if self._asked.stream:
            return EventStream(
                self._events(),
                keep_alive_seconds=settings.keep_alive_seconds,
                stall_seconds=settings.stall_seconds,
                on_lost=self._lost,
            )
        return await answer_while_connected(self._request, self._whole())

    async def _whole(self) -> Response:
        """The answer as one document, once all texts are finished.

        Raises:
            GemcutError: a text failed.
        """
        try:
            async for updates in self._generation.updates():
                for index, update in updates.items():
                    self._choices[index].push(update)
        finally:
            self._generation.cancel()
        for sequence in self._generation.sequences:
            check_ended_well(sequence)
        choices = [{"index": index, **choice.whole()} for index, choice in enumerate(self._choices)]
        return JsonResponse({**self._head, "choices": choices, "usage": self._usage()})

    async def _events(self) -> AsyncGenerator[bytes, None]:
        """The answer as events; an error is the last one before the end."""
        options = self._asked.stream_options
        try:
            async for updates in self._generation.updates():
                yield b"".join(
                    self._event(index, part)
                    for index, update in updates.items()
                    for part in self._choices[index].push(update)
                )
                for update in updates.values():
                    if update.finished:
                        check_ended_well(update.sequence)
            if options is not None and options.include_usage:
                timings = timings_of(self._generation.sequences, self._exchange.first_token_seconds)
                yield event({**self._head, "choices": [], "usage": self._usage(), "timings": timings})
        except BaseException as error:
            if not is_failure(error):
                raise
            if not isinstance(error, GemcutError):
                logger.error("%s failed in its stream", self._exchange.request_id, exc_info=error)
            _, body, _ = describe(error)
            self._exchange.error_code = body["error"]["code"]
            yield event(body)
        finally:
            self._generation.cancel()
        yield DONE

    def _event(self, index: int, part: Mapping[str, Any]) -> bytes:
        """An event with one choice; what all events share is encoded once."""
        options = self._asked.stream_options
        usage = b""
        if options is not None and (options.continuous_usage_stats or options.include_usage):
            usage = b',"usage":' + json_bytes(self._usage() if options.continuous_usage_stats else None)
        return b'%b,"choices":[{"index":%d,%b]%b}\n\n' % (self._opening, index, json_bytes(part)[1:], usage)

    def _lost(self, reason: str) -> None:
        """The client has left, or reads nothing."""
        self._generation.cancel()
        self._exchange.error_code = reason
        self._server.metrics.cancelled(reason)

    def _usage(self) -> dict[str, Any]:
        return usage_of(self._generation.sequences, self._asked.n or 1)


def check_ended_well(sequence: TextSequence) -> None:
    """Raise what ended a text before its time.

    Raises:
        RequestError: it took too long (504).
        GemcutError: the engine failed.
    """
    if sequence.finish_reason == "timeout":
        raise RequestError(
            "The request took longer than this server allows. Ask for fewer tokens.",
            status=504,
            code="timeout",
            headers={"x-should-retry": "false"},
        )
    if sequence.finish_reason == "error":
        logger.error("A text ended in an error.", exc_info=sequence.error)
        if isinstance(sequence.error, GemcutError):
            raise sequence.error
        raise BackendError("The engine failed; the server's log says why.")


def timings_of(sequences: Sequence[TextSequence], first_token_seconds: float | None) -> dict[str, float | None]:
    """Speeds of an answer, by its first text."""
    timings = sequences[0].timings

    def speed(tokens: int, seconds: float) -> float | None:
        return round(tokens / seconds, 2) if seconds else None

    return {
        "prompt_tokens_per_second": speed(timings.prefill_tokens, timings.prefill_seconds),
        "tokens_per_second": speed(timings.decode_tokens, timings.decode_seconds),
        "time_to_first_token_seconds": first_token_seconds,
    }
