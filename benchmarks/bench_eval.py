"""Measure `gemcut eval` against lm-evaluation-harness with its Hugging Face backend on the starter; table and JSON.

    python benchmarks/bench_eval.py [TASK ...] [--peer float32|bfloat16 ...] [--ours auto|float32 ...] [--items N] ...

By turns on this machine: the first 100 items of each task, the same fixed examples on both sides, making the prompts
and asking the model; loading it is not counted. Gemcut asks the starter as it is, a 4-bit file, and with --ours float32
the same weights in float32, which are lm-eval's in either type. lm-eval runs with the batch size that is fastest on
--tried items. A whole run takes hours, nearly all of them lm-eval's; fewer items take less and are to lm-eval's favour
where examples are shown, which Gemcut reads once for all of them. Rows of earlier runs stay in the file.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import statistics
import sys
import time
from typing import Any

from alternating import SETTLE_SECONDS, Comparison, Worker
from eval_items import HERE, LMEVAL_PYTHON, TaskItems, starter_folder
from rich.console import Console
from rich.table import Table
from run import machine

RESULT = HERE / "results" / "eval-speed.json"
SHOTS = {"hellaswag": 10, "arc_challenge": 25, "piqa": 0, "boolq": 0, "arc_easy": 0}
# How many times as fast as lm-eval Gemcut is to be on the starter, by lm-eval's type: with examples, and without.
BARS = {"float32": (5.0, 2.0), "bfloat16": (3.0, 1.2)}


def main() -> None:
    """Measure what is asked for, keep each row as it comes, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"out of {', '.join(SHOTS)}; all by default")
    parser.add_argument("--peer", nargs="*", default=list(BARS), choices=list(BARS), help="lm-eval's number formats")
    parser.add_argument("--ours", nargs="*", default=["auto"], choices=["auto", "float32"], help="Gemcut's")
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--tried", type=int, default=8, help="items that lm-eval's batch size is found on")
    parser.add_argument("--batch-sizes", nargs="*", type=int, default=[1, 4, 16], help="lm-eval's; logits take memory")
    parser.add_argument("--rounds", type=int, default=2, help="measured runs of each program")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    kept: dict[str, Any] = json.loads(RESULT.read_text())["rows"] if RESULT.is_file() else {}
    rows: dict[str, Any] = {}
    versions: dict[str, Any] = {"gemcut": importlib.metadata.version("gemcut")}
    for peer_type in arguments.peer:
        for own_type in arguments.ours:
            with _peer(peer_type, arguments) as peer, _ours(own_type, arguments) as ours:
                versions |= peer.versions
                for task in arguments.tasks or SHOTS:
                    name = f"{task}, Gemcut {own_type}, lm-eval {peer_type}"
                    rows[name] = measured(task, ours, peer, peer_type, own_type, arguments)
                    _keep(kept | rows, versions)
                    print(f"{name}: {rows[name]['ratio']:.2f}x", file=sys.stderr)
    print_table(rows)
    sys.exit(0 if all(row["met"] is not False for row in rows.values()) else 1)


def _peer(dtype: str, arguments: argparse.Namespace) -> Worker:
    script = str(HERE / "peer_lmeval.py")
    command = [str(LMEVAL_PYTHON), script, str(starter_folder()), "--dtype", dtype, "--threads", str(arguments.threads)]
    return Worker("lm-eval", command)


def _ours(dtype: str, arguments: argparse.Namespace) -> Worker:
    model = "starter" if dtype == "auto" else str(starter_folder())
    command = [
        sys.executable,
        str(HERE / "worker_eval.py"),
        model,
        "--dtype",
        dtype,
        "--threads",
        str(arguments.threads),
    ]
    return Worker("gemcut", command)


def measured(
    task: str, ours: Worker, peer: Worker, peer_type: str, own_type: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The figures of one row."""
    items = TaskItems(task, arguments.items, SHOTS[task], first=True)
    plain = {"token_ids": False, "metrics": False}
    asked = {"task": task, "shots": SHOTS[task], "items": len(items.asked)}
    batch_size = _best_batch_size(task, peer, plain, arguments)
    theirs = items.peer_request(batch_size=batch_size, **plain)
    comparison = Comparison(task, len(items.asked))
    first = ours.ask(asked)  # not counted; lm-eval's were those that chose the batch size
    if first["items"] != [each.item.item_id for each in items.asked]:
        raise RuntimeError(f"{task}: both programs do not have the same items.")
    for index in range(arguments.rounds):
        for worker in (ours, peer) if index % 2 == 0 else (peer, ours):
            time.sleep(SETTLE_SECONDS)
            request, figures = (asked, comparison.ours) if worker is ours else (theirs, comparison.peers)
            figures.append(worker.ask(request)["seconds"])
    bar = BARS[peer_type][0 if SHOTS[task] else 1] if own_type == "auto" else None
    return {
        **comparison.as_json(),
        "ours_first_seconds": first["seconds"],
        "shots": SHOTS[task],
        "items": len(items.asked),
        "batch_size": batch_size,
        "threads": arguments.threads,
        "command": "python benchmarks/bench_eval.py " + " ".join(sys.argv[1:]),
        "bar": bar,
        "met": None if bar is None else comparison.ratio >= bar,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
    }


def _best_batch_size(task: str, peer: Worker, plain: dict[str, Any], arguments: argparse.Namespace) -> int:
    """The one that lm-eval is fastest with on a few items, after one run that is not counted."""
    few = TaskItems(task, arguments.tried, SHOTS[task], first=True)
    peer.ask(few.peer_request(batch_size=arguments.batch_sizes[0], **plain))
    seconds = {size: peer.ask(few.peer_request(batch_size=size, **plain))["seconds"] for size in arguments.batch_sizes}
    return min(seconds, key=seconds.__getitem__)


def _keep(rows: dict[str, Any], versions: dict[str, Any]) -> None:
    RESULT.write_text(json.dumps({"name": "eval-speed", "versions": versions, "rows": rows}, indent=1) + "\n")


def print_table(rows: dict[str, Any]) -> None:
    """The figures for a reader."""
    table = Table(title="gemcut eval against lm-evaluation-harness, seconds for making prompts and asking")
    for column in ("row", "shots", "items", "gemcut", "lm-eval", "batch size", "ratio", "bar"):
        table.add_column(column, justify="left" if column == "row" else "right")
    for name, row in rows.items():
        seconds = [f"{statistics.median(row[key]):.1f}" for key in ("ours_seconds", "peer_seconds")]
        bar = "-" if row["bar"] is None else f"{row['bar']:g} {'met' if row['met'] else 'MISSED'}"
        table.add_row(
            name, str(row["shots"]), str(row["items"]), *seconds, str(row["batch_size"]), f"{row['ratio']:.2f}", bar
        )
    Console().print(table)


if __name__ == "__main__":
    main()
