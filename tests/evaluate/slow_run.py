"""A run in a process of its own, in small steps with pauses, for the tests that kill it.

Arguments: the model's folder, the engine, the run's folder, seconds to wait before each step, task files. Prints the
number of items that were asked.
"""

from __future__ import annotations

import functools
import json
import sys
import time

import gemcut
from gemcut.evaluate import asker, run


def make_small_steps(set_attribute) -> None:
    """Let calls hold little."""
    set_attribute(asker, "CALL_ROWS", 8)
    set_attribute(asker, "RUNNING", 8)
    set_attribute(run, "Asker", functools.partial(asker.Asker, call_tokens=60))


def main() -> None:
    """Run."""
    model_path, engine, output, seconds, *tasks = sys.argv[1:]
    model = gemcut.load(model_path, engine=engine, dtype="float32")
    if float(seconds):
        ask = asker.Asker.ask

        def slowly(*arguments):
            for answers in ask(*arguments):
                time.sleep(float(seconds))
                yield answers

        asker.Asker.ask = slowly
    make_small_steps(setattr)
    results = run.evaluate(model, tasks, output=output, shots=2)
    print(json.dumps(sum(task["num_computed"] for task in results.facts["tasks"].values())))


if __name__ == "__main__":
    main()
