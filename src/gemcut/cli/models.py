"""`gemcut models`: what is on this machine."""

from __future__ import annotations

from typing import Any

from gemcut.cli import options
from gemcut.cli.output import in_columns, print_json, print_notice, size_in_words, write_answer


def models(*, json: options.JsonOption = False) -> None:
    """List the models in the caches of Hugging Face, Kaggle and Gemcut.

    Reference, size, format, licence, and the day it was last read.
    """
    from gemcut.inspect import list_models

    rows = list_models()
    if json:
        print_json(rows)
    elif rows:
        header = ["MODEL", "SIZE", "FORMAT", "LICENCE", "LAST READ"]
        write_answer(in_columns([header, *(_for_people(row) for row in rows)]))
    else:
        print_notice("No model is on this machine. Get one: gemcut pull REF")


def _for_people(row: dict[str, Any]) -> list[str]:
    format_name = row["format"] or ("not read" if row["complete"] else "unfinished")
    day = row["last_used"][:10] if row["last_used"] else "-"
    return [row["reference"], size_in_words(row["size_bytes"]), format_name, row["licence"] or "not known", day]
