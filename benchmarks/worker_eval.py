"""`gemcut.evaluate.evaluate` as one of two programs: a line of JSON is a run, its answer says how long it took.

python worker_eval.py MODEL [--dtype D] [--threads N]

A request is {"task": name, "shots": N, "items": N}; data comes from the folder beside the checkout, and every run asks
everything anew. The answer has "seconds", the names of the items and the task's figures.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gemcut
from gemcut.evaluate.run import evaluate
from gemcut.evaluate.run_folder import read_run

DATA = Path(__file__).resolve().parents[2] / "shared" / "datasets"


def main() -> None:
    """Answer requests until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    model = gemcut.load(arguments.model, engine="native", dtype=arguments.dtype, threads=arguments.threads)
    ready = {"gemcut": importlib.metadata.version("gemcut"), "dtype": model.dtype, "threads": model.num_threads}
    print(json.dumps({"ready": ready}), flush=True)
    for line in sys.stdin:
        print(json.dumps(run(model, json.loads(line))), flush=True)


def run(model: Any, request: dict[str, Any]) -> dict[str, Any]:
    """One run."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        results = evaluate(
            model,
            [request["task"]],
            output=folder,
            data=[DATA],
            shots=request["shots"],
            limit=request["items"],
            fresh=True,
        )
        seconds = time.perf_counter() - start
        facts = results.facts["tasks"][request["task"]]
        items = [item.item_id for item in read_run(Path(folder)).items(request["task"])]
    figures = {name: figure["value"] for name, figure in facts["metrics"].items()}
    return {"seconds": seconds, "items": items, "metrics": figures}


main()
