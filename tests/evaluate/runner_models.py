"""Models for the tests of the runner: the tiny tokenizer before an engine whose numbers follow from the tokens."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from gemcut.config import FULL_ATTENTION, DecoderConfig, RopeParameters
from gemcut.generate import TextModel
from gemcut.interfaces import ContinuationScore, DecodedTokens
from gemcut.text import ChatTemplate, Tokenizer, TokenizerSettings

DATA = Path(__file__).resolve().parents[1] / "text" / "data"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message.role }}\n{{ message.content }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


class NumberEngine:
    """Log-probabilities and greedy tokens that follow from all tokens before, by a digest.

    Attributes:
        scored: The texts of each call that scores, as lists of ids.
        prompts: The prompts of each call that prefills.
        broken: What the log-probabilities of a text that has this token are.
        fails: An exception for the next call.
    """

    engine, dtype, device, num_threads = "numbers", "float32", "cpu", 1

    def __init__(self, context: int = 120, salt: str = "") -> None:
        rope = ((FULL_ATTENTION, RopeParameters()),)
        self.config = DecoderConfig(704, 8, 8, 1, 1, 1, 8, context, (FULL_ATTENTION,), None, rope, 8)
        self.salt = salt
        self.scored: list[list[list[int]]] = []
        self.prompts: list[list[list[int]]] = []
        self.broken: dict[int, float] = {}
        self.fails: list[BaseException] = []

    def num_compiled(self) -> int:
        return 0

    def number(self, token_ids: Any) -> int:
        digest = hashlib.sha256(f"{self.salt}{[int(each) for each in token_ids]}".encode()).digest()
        return int.from_bytes(digest[:4], "little")

    def score_continuations(self, token_ids, num_scored):
        if self.fails:
            raise self.fails.pop(0)
        self.scored.append([list(row) for row in token_ids])
        return [self._score(list(row), count) for row, count in zip(token_ids, num_scored, strict=True)]

    def _score(self, row: list[int], count: int) -> ContinuationScore:
        assert max(len(row), 1) <= self.config.max_position_embeddings
        values = [-(self.number(row[:end]) % 1000) / 100 for end in range(len(row) - count + 1, len(row) + 1)]
        for token_id, value in self.broken.items():
            values = [value if token_id in row else each for each in values]
        return ContinuationScore(np.array(values, np.float32), self.number(row) % 2 == 0)

    def new_cache(self, batch_size, max_tokens):
        return Rows([[] for _ in range(batch_size)])

    def prefill(self, cache, token_ids):
        self.prompts.append([list(row) for row in token_ids])
        cache.rows = [list(row) for row in token_ids]

    def decode(self, cache, num_steps, options, uniforms, *, num_top_logprobs=None, mask=None, stop_token_ids=()):
        if self.fails:
            raise self.fails.pop(0)
        chosen = np.zeros((len(cache.rows), num_steps), np.int32)
        logprobs = np.full((len(cache.rows), num_steps), -0.5, np.float32)
        for step in range(num_steps):
            for index, row in enumerate(cache.rows):
                chosen[index, step] = 300 + self.number(row) % 300
                for token_id, value in self.broken.items():
                    logprobs[index, step] = value if token_id in row else logprobs[index, step]
                row.append(int(chosen[index, step]))
        return DecodedTokens(chosen, logprobs if num_top_logprobs is not None else None)

    def logits(self, token_ids):
        values = [
            [(self.number([*token_ids[: end + 1], i]) % 100) / 10 for i in range(704)] for end in range(len(token_ids))
        ]
        return np.array(values, np.float32)

    def close(self) -> None:
        pass


class Rows:
    """A cache: the tokens of each row."""

    capacity = 10_000

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(row) for row in self.rows], np.int32)

    @property
    def num_reused(self) -> list[int]:
        return [0] * len(self.rows)


def tiny_tokenizer(name: str = "tiny-gemma", **settings: Any) -> Tokenizer:
    data = (DATA / f"{name}.model").read_bytes()
    return Tokenizer.from_sentencepiece(data, where=name, settings=TokenizerSettings(**settings))


def number_model(context: int = 120, template: str | None = TEMPLATE, salt: str = "", **settings: Any) -> TextModel:
    """A model with a NumberEngine."""
    tokenizer = tiny_tokenizer(**settings)
    chat = None if template is None else ChatTemplate(template, tokenizer=tokenizer, where="tiny")
    return TextModel(NumberEngine(context, salt), tokenizer, chat, name="tiny")


ROWS = [
    {"id": f"q{number}", "question": f"{number} and {number % 7} are", "choices": ["one", "two", "three"][: 2 + number % 2],
     "gold": number % 2}
    for number in range(24)
]  # fmt: skip
CHOICES_TASK = """\
title: Sums
kind: choices
data: {set: ".", file: rows.jsonl}
prompt: "Question: {{ question }}\\nAnswer:"
choices: choices
gold: gold
metrics: [acc_norm, acc]
shots: {files: [shots.jsonl]}
"""
WRITTEN_TASK = """\
title: Written sums
kind: generate
data: {set: ".", file: rows.jsonl}
prompt: "Question: {{ question }}\\nAnswer:"
target: "{{ choices[0] }}"
gold: choices
answer: {ignore_case: true}
stop: ["\\n"]
max_tokens: 6
shots: {files: [shots.jsonl]}
"""


def write_tasks(folder: Path, rows: list[dict[str, Any]] | None = None) -> tuple[Path, Path]:
    """Task files of a user, one of choices and one of written answers, with their rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in (("rows.jsonl", ROWS if rows is None else rows), ("shots.jsonl", ROWS[:5])):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    paths = folder / "sums.yaml", folder / "written.yaml"
    for path, text in zip(paths, (CHOICES_TASK, WRITTEN_TASK), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths
