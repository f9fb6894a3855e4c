"""`gemcut models`: what is on this machine."""

from __future__ import annotations

from typing import Any

from gemcut.cli import options
from gemcut.cli.output import print_json, print_notice, size_in_words, write_answer


def models(*, json: options.JsonOption = False) -> None:
    """List the models in the caches of Hugging Face, Kaggle and Gemcut.

    Reference, size, format, licence, and the day it was last read.
    """
    from gemcut.inspect import list_models

    rows = list_models()
    if json:
        print_json(rows)
    elif rows:
        write_answer(_table([_for_people(row) for row in rows]))
    else:
        print_notice("No model is on this machine. Get one: gemcut pull REF")


def _for_people(row: dict[str, Any]) -> list[str]:
    format_name = row["format"] or ("not read" if row["complete"] else "unfinished")
    day = row["last_used"][:10] if row["last_used"] else "-"
    return [row["reference"], size_in_words(row["size_bytes"]), format_name, row["licence"] or "not known", day]


def _table(rows: list[list[str]]) -> str:
    """Rows under a header, in columns as wide as their longest cell."""
    rows = [["MODEL", "SIZE", "FORMAT", "LICENCE", "LAST READ"], *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"
