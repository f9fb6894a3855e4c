"""A model behind an OpenAI-compatible server, with the part of `gemcut.TextModel` that a chat uses."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gemcut.errors import DataError, GemcutError, NotFoundError, UsageError
from gemcut.interfaces import Completion, Piece, Timings

_SILENCE_SECONDS = 300.0  # servers send a comment now and then while a model is at work
_MAX_LINE_BYTES = 1 << 24
_MAX_ANSWER_BYTES = 1 << 22


class RemoteModel:
    """A model of a server.

    Args:
        url: The server, with or without /v1 at its end.
        name: The model's name there; None for the server's first.
        api_key: Opens the server; None where it is open.

    Attributes:
        name: The model's name there.
        engine: What computes it, as far as the server says.
        is_instruction_tuned: Whether it was trained to chat; servers that do not say are believed to have such models.
        defaults: Sampling that holds where a request says nothing; empty where the server does not say.

    Raises:
        UsageError: the URL is none, or the key is refused.
        NotFoundError: the server has no such model.
        GemcutError: the server cannot be reached, or answers something else.
    """

    def __init__(self, url: str, name: str | None, api_key: str | None) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"--server {url}: not a URL, expected one such as http://127.0.0.1:8000.")
        self._url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        cards = self._cards()
        if name is not None and name not in cards:
            raise NotFoundError(f"--model {name}: {self._url} has no such model, expected one of {', '.join(cards)}.")
        self.name = name if name is not None else next(iter(cards))
        card = cards[self.name]
        self.engine = str(card.get("engine", "remote"))
        self.is_instruction_tuned = bool(card.get("is_chat", True))
        defaults = card.get("defaults")
        self.defaults: dict[str, Any] = defaults if isinstance(defaults, dict) else {}

    def chat_stream(
        self, messages: Sequence[Mapping[str, Any]], *, system: str | None = None, **options: Any
    ) -> Iterator[Piece]:
        """As `gemcut.TextModel.chat_stream`; token ids come only from servers that send them.

        Raises:
            GemcutError: the server refuses, breaks off or sends something else.
        """
        first = [{"role": "system", "content": system}] if system is not None else []
        body = {"model": self.name, "messages": [*first, *messages], "stream": True, "return_token_ids": True}
        given = {name: value for name, value in options.items() if value not in (None, ())}
        answer = self._ask("/chat/completions", body | {"stream_options": {"include_usage": True}} | given)
        text, reason = "", "length"
        token_ids: list[int] = []
        last: dict[str, Any] = {}
        with answer:
            for event in self._events(answer):
                last = event if event.get("usage") else last
                for choice in event.get("choices") or ():
                    new, ids = choice["delta"].get("content") or "", choice.get("token_ids") or []
                    text, reason = text + new, choice.get("finish_reason") or reason
                    token_ids += ids
                    if new or ids:
                        yield Piece(new, ids)
        usage = {name: int((last.get("usage") or {}).get(name) or 0) for name in ("prompt_tokens", "completion_tokens")}
        timings = _timings(usage, last.get("timings") or {})
        yield Piece("", [], Completion(text, token_ids, reason, usage, timings=timings))

    def close(self) -> None:
        """Nothing is held between two answers."""

    def _cards(self) -> dict[str, dict[str, Any]]:
        """What the server says of its models, by name."""
        with self._ask("/models") as answer:
            data = answer.read(_MAX_ANSWER_BYTES)
        try:
            cards = {card["id"]: card for card in json.loads(data)["data"]}
        except (ValueError, TypeError, LookupError):
            cards = {}
        if not cards:
            raise GemcutError(f"{self._url}/models: no list of models, expected an OpenAI-compatible server.")
        return cards

    def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The open answer to a request."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, self._headers)
        try:
            return urllib.request.urlopen(request, timeout=_SILENCE_SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(self._url, error.code, error.read(65536)) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise GemcutError(f"{self._url}: cannot be reached ({reason}). Is the server running there?") from None

    def _events(self, answer: Any) -> Iterator[dict[str, Any]]:
        """The events of a stream, up to its end."""
        while line := self._line(answer):
            name, _, value = line.rstrip(b"\r\n").partition(b":")
            if name != b"data":
                continue
            if value.strip() == b"[DONE]":
                return
            try:
                event = json.loads(value)
            except ValueError:
                event = None
            if not isinstance(event, dict):
                raise DataError(f"{self._url}: {value[:80]!r} is no event, expected JSON.")
            if "error" in event:
                raise _refusal(self._url, 500, value)
            yield event
        raise GemcutError(f"{self._url}: the answer broke off. Ask again.")

    def _line(self, answer: Any) -> bytes:
        try:
            return answer.readline(_MAX_LINE_BYTES)
        except OSError as error:
            raise GemcutError(f"{self._url}: the connection broke ({error}). Ask again.") from None


def _refusal(url: str, status: int, body: bytes) -> GemcutError:
    """What a server's error means here."""
    try:
        message = str(json.loads(body)["error"]["message"])[:1000]
    except (ValueError, TypeError, LookupError):
        message = f"HTTP {status}"
    kinds = {400: UsageError, 401: UsageError, 404: NotFoundError}
    hint = " Give --api-key KEY." if status == 401 else ""
    return kinds.get(status, GemcutError)(f"{url}: {message}{hint}")


def _timings(usage: Mapping[str, int], speeds: Mapping[str, Any]) -> Timings:
    """Times that go with tokens and speeds."""
    prompt, answer = usage["prompt_tokens"], usage["completion_tokens"]
    prompt_speed, answer_speed = speeds.get("prompt_tokens_per_second"), speeds.get("tokens_per_second")
    return Timings(
        prefill_tokens=prompt,
        prefill_seconds=prompt / prompt_speed if prompt_speed else 0.0,
        decode_tokens=answer,
        decode_seconds=answer / answer_speed if answer_speed else 0.0,
    )
