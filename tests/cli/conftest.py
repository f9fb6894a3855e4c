"""A model that answers without weights, behind the names that the commands use."""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import gemcut
from gemcut.interfaces import Completion, Piece


class FakeModel:
    """Answers with fixed pieces and records how it was called.

    Attributes:
        calls: (method, prompt or messages, keyword arguments) of each call.
        pieces: What it streams; an exception among them is raised.
        closed: Whether `close` was called.
    """

    engine, dtype, device, num_threads, load_seconds = "jax", "float32", "cpu", 2, 0.5

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, dict[str, Any]]] = []
        self.pieces: list[str | BaseException] = ["Mer", "cury ", "é"]
        self.finish_reason = "stop"
        self.is_instruction_tuned = True
        self.defaults: dict[str, Any] = {"temperature": 1.0, "top_k": 64, "top_p": 0.95}
        self.closed = False

    def stream(self, prompt: str | list[int], **options: Any) -> Iterator[Piece]:
        self.calls.append(("stream", prompt, options))
        return self._answer()

    def chat_prompt(self, messages: list[dict[str, Any]], *, system: str | None) -> list[int]:
        self.calls.append(("chat_prompt", messages, {"system": system}))
        return [2, 105]

    def chat_stream(self, messages: list[dict[str, Any]], **options: Any) -> Iterator[Piece]:
        self.calls.append(("chat_stream", messages, options))
        return self._answer()

    def close(self) -> None:
        self.closed = True

    def _answer(self) -> Iterator[Piece]:
        text, token_ids = "", []
        for index, piece in enumerate(self.pieces):
            if isinstance(piece, BaseException):
                raise piece
            text, token_ids = text + piece, [*token_ids, index]
            completion = None
            if index == len(self.pieces) - 1:
                usage = {"prompt_tokens": 7, "completion_tokens": len(token_ids)}
                completion = Completion(text, token_ids, self.finish_reason, usage)
            yield Piece(piece, [index], completion)


@pytest.fixture
def fake(monkeypatch):
    """The fake model; `fake.loads` lists the arguments of each load."""
    model = FakeModel()
    model.loads = []

    def load(reference: str, **options: Any) -> FakeModel:
        model.loads.append((reference, options))
        return model

    monkeypatch.setattr(gemcut, "load", load, raising=False)
    return model


@dataclasses.dataclass
class Result:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def invoke(monkeypatch, capsys):
    """Run `gemcut` with arguments and standard input in this process."""
    from gemcut.cli import main

    def run(*arguments: str, stdin: str | bytes = "") -> Result:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "argv", ["gemcut", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        return Result(left.value.code or 0, captured.out, captured.err)

    return run
