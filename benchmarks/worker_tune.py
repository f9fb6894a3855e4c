"""Gemcut's training on given rows, in a process of its own; answers what peer_trl.py answers.

    python worker_tune.py REQUEST.json ANSWER.json

The request has the peer's keys, with "model" (a reference) in place of "folder", and "engine" and "recompute";
"micro_rows" rows are computed together.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = {"jax": ("jax", "jaxlib"), "torch": ("torch",), "tensorflow": ("tensorflow-cpu",)}


def steps_of(path: str, micro_rows: int, rows_per_step: int) -> list[Any]:
    """The rows in order as steps of micro-batches."""
    from gemcut.tune.batches import Batch

    rows = np.load(path)
    names = ("token_ids", "targets", "positions", "segments")
    steps = []
    for begin in range(0, len(rows["token_ids"]) - rows_per_step + 1, rows_per_step):
        starts = range(begin, begin + rows_per_step, micro_rows)
        steps.append(tuple(Batch(*(rows[name][start : start + micro_rows] for name in names)) for start in starts))
    return steps


def main() -> None:
    """Train, then write seconds, losses, tokens and memory."""
    request = json.loads(Path(sys.argv[1]).read_text())
    engine = request["engine"]
    os.environ["KERAS_BACKEND"] = engine
    from gemcut.checkpoint import open_checkpoint
    from gemcut.hub import resolve
    from gemcut.tune.recipe import Recipe
    from gemcut.tune.tuned_model import train_step_of

    recipe = Recipe.from_dict(
        {
            "model": request["model"],
            "data": ["rows"],
            "method": request.get("method", "lora"),
            "lora": {"rank": request["rank"], "alpha": request["alpha"], "targets": request["targets"]},
            "learning_rate": request["learning_rate"],
            "schedule": request.get("schedule", "constant"),
            "warmup": request.get("warmup", 0),
            "clip_norm": request.get("clip_norm", 1.0),
            "engine": engine,
            "dtype": request["dtype"],
            "recompute": request["recompute"],
        }
    )
    begin = time.perf_counter()
    with open_checkpoint(resolve(request["model"])) as checkpoint:
        train = train_step_of(checkpoint, recipe, request["num_steps"], engine, request["threads"])
    load_seconds = time.perf_counter() - begin
    if request.get("factors"):
        import safetensors.numpy

        state = train.state()
        for name, values in safetensors.numpy.load_file(request["factors"]).items():
            state.trained[name.removeprefix("base_model.model.").removesuffix(".weight")] = values
        train.load_state(state)
    seconds, cpu_seconds, losses = [], [], []
    for step in steps_of(request["rows"], request["micro_rows"], request["rows_per_step"])[: request["num_steps"]]:
        begin, cpu_begin = time.perf_counter(), time.process_time()
        losses.append(train.run(step).loss)
        seconds.append(time.perf_counter() - begin)
        cpu_seconds.append(time.process_time() - cpu_begin)
    answer = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "losses": losses,
        "load_seconds": load_seconds,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": {package: importlib.metadata.version(package) for package in ("keras", *PACKAGES[engine])},
        "trainable": sum(int(np.prod(value.shape)) for value in train.trained.values()),
    }
    Path(sys.argv[2]).write_text(json.dumps(answer))


main()
