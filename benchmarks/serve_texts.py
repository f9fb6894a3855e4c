"""Prompts of chats: passages of BoolQ where they lie beside the checkout, else sentences put together."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path

from gemcut.checkpoint import open_checkpoint
from gemcut.generate.load import tokenizer_of
from gemcut.hub import starter_path

PASSAGES = Path(__file__).resolve().parents[2] / "shared" / "datasets" / "boolq" / "validation.jsonl.gz"
MIN_PROMPT, MAX_PROMPT = 100, 300
_SUBJECTS = ("The river", "A merchant", "This method", "The committee", "An old map", "Her brother", "The engine")
_VERBS = ("describes", "follows", "replaced", "measured", "crossed", "explains", "belongs to", "was named after")
_OBJECTS = ("the northern valley", "a law of 1832", "every second winter", "the printed edition", "seven islands")


def prompts(seed: int) -> Iterator[str]:
    """Questions about a passage, 100 to 300 tokens each, none twice in 2,000."""
    count = _token_counter()
    for text in _passages(seed):
        if MIN_PROMPT <= count(text) <= MAX_PROMPT:
            yield f"{text}\n\nWhat does this text say? Answer in a few sentences."


def documents(num_tokens: int, seed: int) -> Iterator[str]:
    """Texts of about so many tokens, each of other passages."""
    count, parts = _token_counter(), []
    for text in _passages(seed):
        parts.append(text)
        if count("\n".join(parts)) >= num_tokens:
            yield "\n".join(parts)
            parts = []


def _passages(seed: int) -> Iterator[str]:
    generator = random.Random(seed)
    if PASSAGES.is_file():
        with gzip.open(PASSAGES, "rt", encoding="utf-8") as file:
            texts = list(dict.fromkeys(json.loads(line)["passage"] for line in file))
        generator.shuffle(texts)
        yield from texts
    while True:
        words = ([generator.choice(part) for part in (_SUBJECTS, _VERBS, _OBJECTS)] for _ in range(14))
        yield " ".join(" ".join(sentence) + "." for sentence in words)


def _token_counter():
    with open_checkpoint(starter_path()) as checkpoint:
        tokenizer = tokenizer_of(checkpoint)
    return lambda text: len(tokenizer.encode(text))
