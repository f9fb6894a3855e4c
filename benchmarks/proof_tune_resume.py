"""Kill training at random moments, 20 times on JAX, 5 on the others: the adapter is the undisturbed run's, bit for bit.

python benchmarks/proof_tune_resume.py [ENGINE ...]
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "parity"))
from killing import Run, write_pairs  # noqa: E402
from tiny_model import write_tiny_model  # noqa: E402

KILLS = {"jax": 20, "torch": 5, "tensorflow": 5}
NUM_STEPS = 150
SEED = 20261129
PACKAGES = ("gemcut", "keras", "jax", "torch", "tensorflow-cpu", "numpy")


def main() -> None:
    """Kill, compare and keep the result."""
    engines = sys.argv[1:] or list(KILLS)
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "python benchmarks/proof_tune_resume.py " + " ".join(sys.argv[1:]),
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "cores": len(os.sched_getaffinity(0)),
        "engines": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        for engine in engines:
            found = killed(engine, Path(scratch) / engine)
            result["engines"][engine] = found
            verdict = "same" if found["same"] else "ANOTHER"
            print(f"{engine}: killed in steps {found['killed_in_steps']}, {verdict} adapter")
    path = HERE / "results" / "tune-resume.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    if not all(found["same"] for found in result["engines"].values()):
        raise SystemExit(1)


def killed(engine: str, scratch: Path) -> dict[str, Any]:
    """One engine: an undisturbed run, and one that is killed again and again; begun anew where it ends too soon."""
    begin, moments = time.perf_counter(), random.Random(SEED)
    model, data = write_tiny_model(scratch / "tiny"), write_pairs(scratch / "pairs.jsonl")
    run = Run(engine, model, data, steps=NUM_STEPS)
    undisturbed = run.finish(scratch / "undisturbed")
    steps: list[int] = []
    runs = 0
    adapters = []
    while len(steps) < KILLS[engine]:
        runs += 1
        folder = scratch / f"killed-{runs}"
        while len(steps) < KILLS[engine]:
            step = run.kill(folder, moments)
            if step is None:
                break
            steps.append(step)
        adapters.append(run.finish(folder))
    return {
        "kills": len(steps),
        "killed_in_steps": steps,
        "num_steps": NUM_STEPS,
        "runs": runs,
        "same": all(adapter == undisturbed for adapter in adapters),
        "adapter_sha256": hashlib.sha256(undisturbed).hexdigest(),
        "seconds": round(time.perf_counter() - begin, 1),
    }


if __name__ == "__main__":
    main()
