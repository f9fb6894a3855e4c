"""Measure a LoRA step against TRL with PEFT, and KerasHub's `fit`, on the starter: tokens a second, memory; and JSON.

    python benchmarks/bench_tune.py [NAME ...] [--peers NAME ...] [--rounds N] [--steps N]

Both train the same packed rows of 512 tokens (GSM8K, answers learnt) with rank 16 on all seven matrices, AdamW, on the
same threads, in turns, each in a fresh process; the first step is not counted. TRL runs without gradient
checkpointing, which is its faster setting, and once with it, which takes it less memory. KerasHub's ratio is to its own
figure on the same backend, in its faster number format of those measured.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from run import dequantised_starter, machine
from tune_rows import write_rows

HERE = Path(__file__).resolve().parent
PEER_PYTHON = HERE.parent / ".venv-peft" / "bin" / "python"
KERASHUB_PYTHON = HERE.parent / ".venv-kerashub" / "bin" / "python"
LENGTH, ROWS_PER_STEP = 512, 4
SPEED_BAR, MEMORY_BAR, KERASHUB_BAR = 2.0, 0.5, 1.5
LORA: dict[str, Any] = {
    "rank": 16,
    "alpha": 32,
    "targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "learning_rate": 2e-4,
}
# name: engine, dtype, what is computed again, rows that are computed together
OURS: dict[str, tuple[str, str, str, int]] = {
    "torch-bfloat16": ("torch", "bfloat16", "blocks", 1),
    "torch-bfloat16-nothing": ("torch", "bfloat16", "nothing", 1),
    "torch-float32": ("torch", "float32", "blocks", 1),
    "jax-float32": ("jax", "float32", "cheap", 1),
    "jax-bfloat16": ("jax", "bfloat16", "cheap", 1),
    "tensorflow-float32": ("tensorflow", "float32", "nothing", 2),
    "tensorflow-bfloat16": ("tensorflow", "bfloat16", "nothing", 2),
}
# name: dtype, gradient checkpointing
TRL = {
    "trl-bfloat16": ("bfloat16", False),
    "trl-float32": ("float32", False),
    "trl-bfloat16-checkpointing": ("bfloat16", True),
}
# name: backend, dtype
KERASHUB = {f"kerashub-{engine}-{dtype}": (engine, dtype) for engine in ("jax", "torch", "tensorflow")
            for dtype in ("float32", "bfloat16")}  # fmt: skip
PEERS = (*TRL, *KERASHUB)


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"ours, out of {', '.join(OURS)}")
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes of each")
    parser.add_argument("--steps", type=int, default=6, help="steps of each process, the first one included")
    parser.add_argument("--no-result", action="store_true", help="do not write results/tune.json")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), help=f"out of {', '.join(PEERS)}")
    arguments = parser.parse_args()
    names = arguments.names or list(OURS)
    with tempfile.TemporaryDirectory() as scratch:
        result = measured(names, arguments.peers, arguments.rounds, arguments.steps, Path(scratch))
    print_table(result["runs"])
    if arguments.no_result:
        return
    path = HERE / "results" / "tune.json"
    kept = json.loads(path.read_text())["measurements"] if path.is_file() else []
    path.write_text(json.dumps({"measurements": [*kept, result]}, indent=1) + "\n")


def measured(names: list[str], peers: list[str], rounds: int, num_steps: int, scratch: Path) -> dict[str, Any]:
    """All figures."""
    threads = len(os.sched_getaffinity(0))
    rows = scratch / "rows.npz"
    tokens, targets = write_rows("starter", rows, num_rows=ROWS_PER_STEP * num_steps, length=LENGTH, scratch=scratch)
    common = LORA | {
        "rows": str(rows),
        "rows_per_step": ROWS_PER_STEP,
        "num_steps": num_steps,
        "threads": threads,
        "scratch": str(scratch / "trl"),
    }
    requests: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for name in peers:
        request = common | {"folder": str(dequantised_starter())}
        if name in TRL:
            dtype, checkpointing = TRL[name]
            request |= {"dtype": dtype, "gradient_checkpointing": checkpointing}
            requests[name] = [str(PEER_PYTHON), str(HERE / "peer_trl.py")], request
        else:
            engine, dtype = KERASHUB[name]
            request |= {"dtype": dtype, "engine": engine}
            requests[name] = [str(KERASHUB_PYTHON), str(HERE / "peer_kerashub_fit.py")], request
    for name in names:
        engine, dtype, recompute, micro_rows = OURS[name]
        request = common | {
            "model": "starter",
            "engine": engine,
            "dtype": dtype,
            "recompute": recompute,
            "micro_rows": micro_rows,
        }
        requests[name] = [sys.executable, str(HERE / "worker_tune.py")], request
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in requests}
    for _ in range(rounds):
        for name, (command, request) in requests.items():
            answers[name].append(answer_of(command, request, scratch))
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", "benchmarks/bench_tune.py", *sys.argv[1:]]),
        "machine": machine(),
        "rows": {"length": LENGTH, "rows_per_step": ROWS_PER_STEP, "tokens": tokens, "learnt": targets},
        "runs": {name: summary(found, tokens / num_steps) for name, found in answers.items()},
    }


def answer_of(command: list[str], request: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """What a program says after its run."""
    question, answer = scratch / "request.json", scratch / "answer.json"
    question.write_text(json.dumps(request))
    answer.unlink(missing_ok=True)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "TOKENIZERS_PARALLELISM": "false"}
    environment |= {"KERAS_BACKEND": request["engine"]} if "engine" in request else {}
    done = subprocess.run([*command, str(question), str(answer)], capture_output=True, text=True, env=environment)
    if done.returncode or not answer.is_file():
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def summary(answers: list[dict[str, Any]], tokens_per_step: float) -> dict[str, Any]:
    """Speed, memory and losses of all rounds together."""
    seconds = [each for answer in answers for each in answer["seconds"][1:]]
    return {
        "tokens_per_second": tokens_per_step / statistics.median(seconds),
        "seconds": seconds,
        "cpu_seconds": [each for answer in answers for each in answer["cpu_seconds"][1:]],
        "first_seconds": [answer["seconds"][0] for answer in answers],
        "peak_memory_bytes": statistics.median(answer["peak_memory_bytes"] for answer in answers),
        "losses": answers[0]["losses"],
        "trainable": answers[0]["trainable"],
        "versions": answers[0]["versions"],
    }


def print_table(runs: dict[str, Any]) -> None:
    """The figures for a reader; ratios are to the fastest run of each peer."""
    trl = _fastest(run for name, run in runs.items() if name in TRL)
    table = Table(
        title=f"LoRA on the starter, rows of {LENGTH} tokens (bars: {SPEED_BAR} x TRL's speed, {MEMORY_BAR} x its "
        f"memory, {KERASHUB_BAR} x KerasHub's speed)"
    )
    for column in ("program", "tok/s", "x TRL", "x KerasHub", "CPU s", "peak GiB", "memory", "first loss", "last loss"):
        table.add_column(column, justify="left" if column == "program" else "right", no_wrap=column == "program")
    for name, run in runs.items():
        engine = OURS[name][0] if name in OURS else None
        hub = _fastest(other for label, other in runs.items() if label in KERASHUB and KERASHUB[label][0] == engine)
        table.add_row(
            name,
            f"{run['tokens_per_second']:.0f}",
            _ratio(run, trl, "tokens_per_second"),
            _ratio(run, hub, "tokens_per_second"),
            f"{statistics.median(run['cpu_seconds']):.2f}",
            f"{run['peak_memory_bytes'] / 2**30:.2f}",
            _ratio(run, trl, "peak_memory_bytes"),
            f"{run['losses'][0]:.4f}",
            f"{run['losses'][-1]:.4f}",
        )
    Console().print(table)


def _fastest(runs: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    return max(runs, key=lambda run: run["tokens_per_second"], default=None)


def _ratio(run: dict[str, Any], other: dict[str, Any] | None, key: str) -> str:
    return f"{run[key] / other[key]:.2f}" if other else "-"


if __name__ == "__main__":
    main()
