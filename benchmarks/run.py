"""Measure Gemcut's Keras engines against KerasHub and transformers on the starter; tables and JSON.

    python benchmarks/run.py [NAME ...] [--rounds N]

Each comparison is one alternating run on this machine: the same float32 weights (dequantised from the starter),
the same token ids, greedy, 64 tokens after a prompt of 6, and the first token after a prompt of 512.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from alternating import Comparison, Worker
from rich.console import Console
from rich.table import Table

from gemcut.hub import cache_folder, starter_path

HERE = Path(__file__).resolve().parent
KERASHUB_PYTHON = HERE.parent / ".venv-kerashub" / "bin" / "python"
SHORT_PROMPT = [2, 818, 5279, 529, 7001, 563]  # "The capital of France is"
LONG_PROMPT = [2, *range(1000, 1511)]  # 512 tokens
DECODE_TOKENS = 64

# name: (engine, dtype, peer, {work: bar}); the bars are those of the project's design.
COMPARISONS: dict[str, tuple[str, str, str, dict[str, float]]] = {
    "jax-kerashub": ("jax", "float32", "kerashub", {"decode": 1.2, "prefill": 1.0}),
    "tensorflow-kerashub": ("tensorflow", "float32", "kerashub", {"decode": 1.2, "prefill": 1.0}),
    "torch-kerashub": ("torch", "float32", "kerashub", {"decode": 2.5}),
    "torch-transformers": ("torch", "float32", "transformers", {"decode": 1.3, "prefill": 1.0}),
    "torch-transformers-bfloat16": ("torch", "bfloat16", "transformers", {"decode": 1.0, "prefill": 1.0}),
}


def main() -> None:
    """Run the comparisons named on the command line, all by default."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"out of {', '.join(COMPARISONS)}")
    parser.add_argument("--rounds", type=int, default=4, help="measured rounds in each pair of processes")
    parser.add_argument("--restarts", type=int, default=3, help="fresh pairs of processes")
    arguments = parser.parse_args()
    for name in arguments.names or COMPARISONS:
        result = measured(name, arguments.rounds, arguments.restarts)
        print_table(name, result)
        path = HERE / "results" / f"{name}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")


def measured(name: str, rounds: int, restarts: int) -> dict[str, Any]:
    """The figures of one comparison.

    Both programs start anew several times: where a process's memory comes to lie changes its speed by a quarter.
    """
    engine, dtype, peer_name, bars = COMPARISONS[name]
    command = [sys.executable, str(HERE / "worker_gemcut.py"), "starter", engine, dtype]
    python = str(KERASHUB_PYTHON) if peer_name == "kerashub" else sys.executable
    peer_command = [python, str(HERE / f"peer_{peer_name}.py"), str(dequantised_starter()), dtype]
    decode = Comparison("decode", DECODE_TOKENS)
    prefill = Comparison("prefill", len(LONG_PROMPT))
    same_text = True
    for _ in range(restarts):
        ours = Worker("gemcut", command)
        peer = Worker(peer_name, peer_command, {"KERAS_BACKEND": engine})
        try:
            same_text &= decode.add(ours, peer, SHORT_PROMPT, DECODE_TOKENS, rounds)
            prefill.add(ours, peer, LONG_PROMPT, 1, rounds)
        finally:
            ours.close()
            peer.close()
    return {
        "name": name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": f"python benchmarks/run.py {name} --rounds {rounds} --restarts {restarts}",
        "versions": {"python": platform.python_version(), "gemcut": ours.versions, peer_name: peer.versions},
        "machine": machine(),
        "engine": engine,
        "dtype": dtype,
        "peer": peer_name,
        "same_text": same_text,
        "bars": bars,
        "comparisons": [decode.as_json(), prefill.as_json()],
    }


def dequantised_starter() -> Path:
    """The starter as a float32 Hugging Face folder in the cache, made once."""
    folder = cache_folder() / "benchmarks" / "starter-float32"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(HERE / "prepare_starter.py"), str(starter_path()), str(folder)]
        subprocess.run(command, check=True)
    return folder


def machine() -> dict[str, Any]:
    """Processor, cores and load."""
    names = [
        line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {"cpu": names[0], "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]}


def print_table(name: str, result: dict[str, Any]) -> None:
    """The figures for a reader."""
    table = Table(title=f"{name}: {result['dtype']}, {len(result['comparisons'][0]['ours_seconds'])} rounds")
    for column in ("work", "gemcut tok/s", f"{result['peer']} tok/s", "ratio (median)", "bar"):
        table.add_column(column, justify="left" if column == "work" else "right")
    for row in result["comparisons"]:
        bar = result["bars"].get(row["work"])
        table.add_row(
            row["work"],
            f"{row['ours_tokens_per_second']:.1f}",
            f"{row['peer_tokens_per_second']:.1f}",
            f"{row['ratio']:.2f}",
            "-" if bar is None else f"{bar:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
