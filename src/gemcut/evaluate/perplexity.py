"""The perplexity of a text of one's own, as a task."""

from __future__ import annotations

from pathlib import Path

from gemcut.errors import DataError
from gemcut.evaluate.task import Task
from gemcut.evaluate.templates import Template
from gemcut.files import read_bytes

MAX_TEXT_BYTES = 256 << 20
METRICS = ("word_perplexity", "byte_perplexity", "token_perplexity", "bits_per_byte")


def perplexity_task(path: Path) -> Task:
    """How well a model foresees a text: perplexity by word, by byte and by token, and bits for each byte.

    Each token is scored once, in windows of the context's length; words and bytes are counted as lm-evaluation-harness
    0.4.13 counts them.

    Args:
        path: Of a text in UTF-8, which is one item.

    Raises:
        NotFoundError: there is no such file.
        DataError: it is empty, or not UTF-8.
    """
    data = read_bytes(path, MAX_TEXT_BYTES, DataError)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8, expected text in UTF-8. Convert it.") from None
    if not text.strip():
        raise DataError(f"{path}: is empty, expected text.")
    return Task(
        name=f"perplexity-{path.stem}",
        title=f"Perplexity of {path.name}",
        kind="rolling",
        data_set=str(path.resolve().parent),
        files=(path.name,),
        given_rows=({"text": text},),
        prompt=Template("{{ text }}", "perplexity, prompt"),
        metrics=METRICS,
        aggregate_name="perplexity",
        notes=("Each token is scored once; the first one of a window follows BOS.",),
    )


__all__ = ["perplexity_task"]
