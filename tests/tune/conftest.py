"""Small tokenizers and models' text sides that the tests of tuning share."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemcut.text import Tokenizer, chat_template_for
from gemcut.tune.training_data import ModelText

DATA = Path(__file__).resolve().parents[1] / "text" / "data"


@pytest.fixture(scope="session")
def gemma() -> Tokenizer:
    """The tiny tokenizer with Gemma's settings."""
    return Tokenizer.from_sentencepiece((DATA / "tiny-gemma.model").read_bytes(), where="tiny-gemma.model")


@pytest.fixture(scope="session")
def llama() -> Tokenizer:
    """The tiny tokenizer with Llama's settings: it puts a space before every text."""
    return Tokenizer.from_sentencepiece((DATA / "tiny-llama.model").read_bytes(), where="tiny-llama.model")


@pytest.fixture
def base_model(gemma: Tokenizer) -> ModelText:
    """A base model's text side: the family's template, none of its own."""
    return ModelText("tiny", gemma, chat_template_for(gemma, "gemma3_text", where="tiny"), False, 200)


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., str]:
    """Write records as JSON Lines; gives the path."""

    def write(records: list[Any], name: str = "data.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture(scope="session")
def real_tokenizer(shared_folder: Path) -> Callable[[str], Tokenizer]:
    """The real tokenizer of a family, with its chat template."""

    def load(name: str) -> Tokenizer:
        folder = shared_folder / "assets" / "tokenizers" / name
        files = [
            json.loads(gzip.decompress((folder / f"{file}.json.gz").read_bytes()))
            for file in ("tokenizer", "tokenizer_config")
        ]
        return Tokenizer.from_json(files[0], config=files[1], where=name)

    return load
