"""Reference solutions of HumanEval and MBPP in the sandbox: 164 of 164 and 972 of 974 pass (2 minutes).

    python benchmarks/proof_code_sandbox.py [--data DIR]

Two of MBPP's cannot pass: those of tasks 367 and 927 use a class that is not there.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

from run import HERE, machine

from gemcut.evaluate.code_answers import CodeScorer
from gemcut.evaluate.data import DataFolders, Row
from gemcut.evaluate.sandbox import available

DATA = HERE.parent.parent / "shared" / "datasets"
# Of each set: file, field of the reference solution, and the tasks that cannot pass.
SETS = {"humaneval": ("HumanEval.jsonl.gz", "canonical_solution", []), "mbpp": ("mbpp.jsonl.gz", "code", [367, 927])}


def main() -> None:
    """Run both sets, print a line for each, keep the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="folder of the data sets")
    data = DataFolders([parser.parse_args().data])
    sets = {name: tried(name, data.rows(name, file), field) for name, (file, field, _) in SETS.items()}
    passed = all(sorted(sets[name]["failed"]) == sorted(map(str, expected)) for name, (_, _, expected) in SETS.items())
    report = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "python benchmarks/proof_code_sandbox.py",
        "versions": {"gemcut": importlib.metadata.version("gemcut"), "python": platform.python_version()},
        "machine": machine(),
        "mechanism": available().mechanism,
        "passed": passed,
        "sets": sets,
    }
    (HERE / "results" / "code-sandbox.json").write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(0 if passed else 1)


def tried(form: str, rows: list[Row], field: str) -> dict[str, Any]:
    """What comes of the reference solutions of one set, by the task's id where it is not passing."""
    start = time.perf_counter()
    results = CodeScorer(form).allowed().run_all([(row[field], row) for row in rows])
    seconds = time.perf_counter() - start
    failed = {str(row["task_id"]): each.reason for row, each in zip(rows, results, strict=True) if not each.passed}
    print(f"{form:<10} {len(rows) - len(failed):4d} of {len(rows):4d} pass in {seconds:5.1f} s; not: {failed}")
    return {
        "programs": len(rows),
        "passed": len(rows) - len(failed),
        "failed": failed,
        "seconds": round(seconds, 1),
        "longest_seconds": round(max(each.seconds for each in results), 2),
    }


if __name__ == "__main__":
    main()
