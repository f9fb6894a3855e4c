"""A tuning run that says on standard output where it is: what tests and proofs kill.

    python reporting_run.py ENGINE MODEL DATA FOLDER CHANGES

CHANGES is JSON, values of the recipe. Each line is a stage and a step; at last the word "done" and how it ended. It
waits a little after each line, so that whoever reads them can be in time.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """Run the recipe in FOLDER, or go on with it."""
    engine, model, data, folder, changes = sys.argv[1:]
    os.environ["KERAS_BACKEND"] = engine
    from gemcut.cli.tune_progress import stop_on_signals
    from gemcut.tune.recipe import Recipe
    from gemcut.tune.run import Watcher, tune

    recipe = Recipe.from_dict({"model": model, "data": [data], "engine": engine} | json.loads(changes))

    def tell(progress: object) -> None:
        print(progress.stage, progress.step, flush=True)
        time.sleep(0.02)

    with stop_on_signals() as is_asked_to_stop:
        result = tune(recipe, folder, watcher=Watcher(progress=tell, is_asked_to_stop=is_asked_to_stop))
    print("done", result.ended, flush=True)


if __name__ == "__main__":
    main()
