"""The head of a model card: what a repository's README.md says of licence and base."""

from __future__ import annotations

import re
from pathlib import Path

from gemcut.files import read_bytes

MODEL_CARD = "README.md"
_MAX_CARD_BYTES = 4 * 1024 * 1024
_KEY = re.compile(r"(\w+):\s*(.*)")
_ITEM = re.compile(r"\s*-\s+(.*)")


def read_model_card(folder: Path) -> dict[str, list[str]]:
    """Keys of the YAML head of a folder's README.md that hold words or lists of words; empty where there is none.

    A YAML library is not needed for these, and anything more complicated is left out.

    Raises:
        CheckpointError: the file is unreadable or too large to be a card.
    """
    file = folder / MODEL_CARD
    if not file.is_file():
        return {}
    lines = read_bytes(file, _MAX_CARD_BYTES).decode("utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return {}
    card: dict[str, list[str]] = {}
    key = ""
    for line in lines[1:]:
        if line.strip() == "---":
            return {name: values for name, values in card.items() if values}
        if match := _KEY.fullmatch(line):
            key, value = match.groups()
            inline = value.strip().removeprefix("[").removesuffix("]") if value.startswith("[") else None
            card[key] = [_word(item) for item in (value,) if item] if inline is None else _words(inline)
        elif key and (match := _ITEM.fullmatch(line)):
            card[key].append(_word(match[1]))
    return {}


def _words(text: str) -> list[str]:
    return [_word(item) for item in text.split(",") if item.strip()]


def _word(text: str) -> str:
    return text.strip().strip("\"'")
