"""Whether the programs that we write files for load them, and compute what we compute (about 15 minutes).

    python benchmarks/proof_formats.py [CONSUMER ...]

Each consumer runs in an environment of its own (.venv-NAME, made by `make proof-formats`), all by default. Everything
is written from the starter into a temporary folder, which needs about 6 GB. Kept in benchmarks/results/formats.json;
what other consumers gave earlier stays there.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from format_proofs import (
    PYTHONS,
    Row,
    Subject,
    gguf_rows,
    llama_cpp_rows,
    nemo_rows,
    peft_rows,
    transformers_rows,
    vllm_rows,
)
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).resolve().parent / "results" / "formats.json"
CONSUMER_OF = {"trl": "peft"}  # rows of one that are asked of the other
# Function, and the environment it needs.
CONSUMERS = {
    "transformers": (transformers_rows, "transformers"),
    "gguf": (gguf_rows, "transformers"),
    "peft": (peft_rows, "peft"),
    "llama.cpp": (llama_cpp_rows, "llamacpp"),
    "nemo": (nemo_rows, "nemo"),
    "vllm": (vllm_rows, "vllm"),
}


def main() -> None:
    """Ask each consumer, print a line for each answer, keep them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("consumers", nargs="*", default=list(CONSUMERS), metavar="CONSUMER")
    names = parser.parse_args().consumers
    if unknown := sorted(set(names) - set(CONSUMERS)):
        parser.error(f"{unknown[0]} is no consumer, expected one of {', '.join(CONSUMERS)}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(Path(folder))
        for name in names:
            for row in rows_of(name, subject):
                rows.append(row)
                print(f"{row.consumer:<13} {row.what}: {row.figure}", flush=True)
    print_table(rows)
    keep(names, rows)
    sys.exit(1 if any(row.met is False for row in rows) else 0)


def rows_of(name: str, subject: Subject) -> Iterator[Row]:
    """A consumer's rows; one that says why where it cannot be asked, and what went wrong where it failed."""
    ask, environment = CONSUMERS[name]
    if not PYTHONS[environment].exists():
        reason = f"no .venv-{environment} here; `make .venv-{environment}/.installed` makes it"
        yield Row(name, "its environment", "not run", reason, "-", None)
        return
    try:
        yield from ask(subject)
    except RuntimeError as error:
        yield Row(name, "its own process", "failed", str(error), "ends well", False)


def print_table(rows: list[Row]) -> None:
    """The verdict for a reader."""
    table = Table(title="What consumers make of our files")
    for column in ("consumer", "what", "proof", "figure", "limit", "met"):
        table.add_column(column)
    for row in rows:
        met = "-" if row.met is None else "yes" if row.met else "NO"
        table.add_row(row.consumer, row.what, row.level, row.figure, row.limit, met)
    Console().print(table)


def keep(names: list[str], rows: list[Row]) -> None:
    """Put the rows into the results, each consumer with its date and command."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"consumers": {}}
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    for name in names:
        command = "make proof-formats" if len(names) == len(CONSUMERS) else f"benchmarks/proof_formats.py {name}"
        own = [dataclasses.asdict(row) for row in rows if CONSUMER_OF.get(row.consumer, row.consumer) == name]
        kept["consumers"][name] = {"date": date, "command": command, "rows": own}
    kept["versions"] = {"gemcut": importlib.metadata.version("gemcut")}
    kept["passed"] = all(row["met"] is not False for one in kept["consumers"].values() for row in one["rows"])
    RESULTS.write_text(json.dumps(kept, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
