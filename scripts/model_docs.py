"""docs/models.md's table, written from the table of published models; with --check, compares and writes nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from gemcut.config import PUBLISHED, PublishedModel

TARGET = Path(__file__).resolve().parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- begin: written by scripts/model_docs.py -->\n", "<!-- end -->\n"


def main() -> int:
    """Write the table into the page, or say that it differs."""
    page = TARGET.read_text(encoding="utf-8")
    wanted = with_table(page)
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(wanted, encoding="utf-8")
        return 0
    if page == wanted:
        return 0
    print("docs/models.md differs from the published models. Run: python scripts/model_docs.py", file=sys.stderr)
    return 1


def with_table(page: str) -> str:
    """The page with what stands between the markers written anew."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + "".join(f"{line}\n" for line in lines()) + END + after


def lines() -> Iterator[str]:
    """The table, then the notes."""
    yield "| Name | Parameters | Layers | Width | Context | Trained to chat | Hugging Face | Kaggle |"
    yield "|---|---|---|---|---|---|---|---|"
    for model in PUBLISHED.values():
        yield f"| {' | '.join(cells(model))} |"
    yield ""
    for note in dict.fromkeys(model.notes for model in PUBLISHED.values() if model.notes):
        names = ", ".join(f"`{model.name}`" for model in PUBLISHED.values() if model.notes == note)
        yield f"- {names}: {note}"


def cells(model: PublishedModel) -> list[str]:
    """One row."""
    return [
        f"`{model.name}`",
        f"{model.num_parameters:,}",
        str(model.config.num_hidden_layers),
        f"{model.config.hidden_size:,}",
        f"{model.context:,}",
        "yes" if model.instruction_tuned else "no",
        model.huggingface,
        model.kaggle or "",
    ]


if __name__ == "__main__":
    sys.exit(main())
