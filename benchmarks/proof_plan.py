"""What `gemcut plan` says of decoding on this machine against `gemcut bench`, within 20 % (a few minutes).

    python benchmarks/proof_plan.py [MODEL ...] [--rounds N]

MODEL is starter, 2b-q4_0, 2b-q4_k_m (random weights, written the first time) or a path; the first two by default. The
two commands alternate, each in a process of its own, and the median of each is compared. Other work on the machine
spoils both figures, and not alike.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from engine_models import HERE, MODELS, model_path
from run import machine

BAR = 0.2


def main() -> None:
    """Compare each model, print a line, keep the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", default=MODELS[:2], metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = []
    for model in arguments.models:
        rows.append(row := compared(model, arguments.rounds))
        print(f"{model:<12} plan {row['plan']:6.1f}  bench {row['bench']:6.1f} tok/s  ratio {row['ratio']:.2f}")
    passed = all(abs(row["ratio"] - 1) <= BAR for row in rows)
    report = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": f"python benchmarks/proof_plan.py {' '.join(arguments.models)} --rounds {arguments.rounds}",
        "versions": {"gemcut": importlib.metadata.version("gemcut")},
        "machine": machine(),
        "bar": BAR,
        "passed": passed,
        "rows": rows,
    }
    (HERE / "results" / "plan.json").write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(0 if passed else 1)


def compared(model: str, rounds: int) -> dict[str, Any]:
    """Medians of both commands, and all figures."""
    path = model_path(model) if model in MODELS else Path(model)
    runs: dict[str, list[dict[str, Any]]] = {"plan": [], "bench": []}
    for _ in range(rounds):
        runs["plan"].append(_gemcut("plan", path))
        runs["bench"].append(_gemcut("bench", path, "--engine", "native"))
    speeds = {
        "plan": [run["speed"]["decode_tokens_per_second"] for run in runs["plan"]],
        "bench": [run["decode_tokens_per_second"] for run in runs["bench"]],
    }
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    bandwidths = [run["hardware"]["bandwidth_bytes_per_second"] for run in runs["plan"]]
    return {
        "model": model,
        **medians,
        "ratio": medians["plan"] / medians["bench"],
        "runs": speeds,
        "bandwidth_bytes_per_second": bandwidths,
    }


def _gemcut(*arguments: str | Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "gemcut", *map(str, arguments), "--json", "--quiet"]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return answer


if __name__ == "__main__":
    main()
