"""Rows that both programs of a comparison train on: GSM8K's training questions, packed."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from gemcut.errors import NotFoundError
from gemcut.tune.recipe import Recipe
from gemcut.tune.training_data import ModelText, prepare

HERE = Path(__file__).resolve().parent
GSM8K = HERE.parents[1] / "shared" / "datasets" / "gsm8k" / "train.jsonl.gz"


def write_rows(model: str, path: Path, *, num_rows: int, length: int, scratch: Path) -> tuple[int, int]:
    """Write packed rows as arrays (rows, length); tokens without padding, and tokens that are learnt."""
    if not GSM8K.is_file():
        raise NotFoundError(f"{GSM8K}: no such file. It lies in ../shared beside the checkout.")
    source = scratch / "gsm8k.jsonl"
    source.write_bytes(b"\n".join(gzip.decompress(GSM8K.read_bytes()).splitlines()[: num_rows * 6]) + b"\n")
    recipe = Recipe.from_dict(
        {
            "model": model,
            "data": [str(source)],
            "samples": {
                "map": {"prompt": "Question: {question}\nAnswer:", "completion": " {answer}"},
                "sequence_length": length,
                "template": "plain",
                "overlong": "drop",
            },
        }
    )
    rows = prepare(recipe, ModelText.load(model)).rows
    order = np.random.default_rng(0).permutation(len(rows))[:num_rows]
    names = ("token_ids", "targets", "positions", "segments")
    arrays = {name: np.stack([getattr(rows[int(index)], name) for index in order]) for name in names}
    np.savez(path, **arrays)
    return int((arrays["segments"] > 0).sum()), int((arrays["targets"] >= 0).sum())
