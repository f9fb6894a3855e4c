"""Measure the C++ engine against llama.cpp on the same files: every goal of the engine, a table and JSON.

    python benchmarks/bench_engine.py [NAME ...] [--rounds N] [--restarts N] [--passages N]

A NAME is a part such as starter-decode or 2b-q4_0-memory; all by default (one to two hours). llama.cpp runs in
.venv-llamacpp at the fastest of its settings (repack and flash attention on and off), found anew for each row.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import platform
import subprocess

from engine_models import ENGINE_EXECUTABLE, HERE, LLAMACPP_PYTHON, MODELS, Row
from engine_quality import measured_quality
from engine_speed import WORKS, measured_speed
from engine_start import measured_memory, measured_start
from rich.console import Console
from rich.table import Table
from run import machine

KINDS = (*WORKS, "start", "memory")
PARTS = (*(f"{model}-{kind}" for model in MODELS for kind in KINDS), "starter-quality")


def main() -> None:
    """Measure the parts named on the command line; each is printed and kept as soon as it is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="NAME", help=f"out of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds in each pair of processes")
    parser.add_argument("--restarts", type=int, default=3, help="fresh pairs of processes; runs of a start")
    parser.add_argument("--passages", type=int, default=400, help="of BoolQ, for the quality")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.parts if name not in PARTS]
    if unknown:
        parser.error(f"{unknown[0]} is no part; expected some of {', '.join(PARTS)}")
    for part in arguments.parts or PARTS:
        rows = measured(part, arguments)
        Console().print(table(part, rows))
        options = f"--rounds {arguments.rounds} --restarts {arguments.restarts} --passages {arguments.passages}"
        report = {
            "name": part,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": f"python benchmarks/bench_engine.py {part} {options}",
            "versions": versions(),
            "machine": machine(),
            "rows": [dataclasses.asdict(row) for row in rows],
        }
        (HERE / "results" / f"engine-{part}.json").write_text(json.dumps(report, indent=1) + "\n")


def measured(part: str, arguments: argparse.Namespace) -> list[Row]:
    """The rows of one of PARTS."""
    model, _, kind = part.rpartition("-")
    if kind == "quality":
        return measured_quality(arguments.passages)
    if kind == "start":
        return measured_start(model, arguments.restarts)
    if kind == "memory":
        return measured_memory(model, arguments.restarts)
    return measured_speed(model, kind, arguments.rounds, arguments.restarts)


def table(part: str, rows: list[Row]) -> Table:
    """The rows for a reader."""
    result = Table(title=part)
    for column in ("work", "gemcut", "llama.cpp", "figure", "goal", "verdict"):
        result.add_column(column, justify="left" if column in ("work", "verdict") else "right")
    for row in rows:
        verdict = "-" if row.met is None else "[green]met[/]" if row.met else "[red]missed[/]"
        result.add_row(row.work, row.ours, row.peer, row.figure, row.goal, verdict)
    return result


def versions() -> dict[str, str]:
    """Of what was measured."""
    code = "import llama_cpp; print(llama_cpp.__version__)"
    peer = subprocess.run([str(LLAMACPP_PYTHON), "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
    command = [str(ENGINE_EXECUTABLE), "version"]
    engine = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {
        "python": platform.python_version(),
        "gemcut": importlib.metadata.version("gemcut"),
        "gemcut-engine": engine.splitlines()[0],
        "llama-cpp-python": peer.strip(),
    }


if __name__ == "__main__":
    main()
