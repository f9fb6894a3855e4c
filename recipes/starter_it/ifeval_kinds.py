"""IFEval of two runs of `gemcut eval` by kind of wish: prompts with one wish, how many each run followed (strict).

python recipes/starter_it/ifeval_kinds.py RUN_A RUN_B [--data DIR]
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from pathlib import Path

from write_data import SHARED, read

from gemcut.evaluate.run_folder import read_run


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="a folder of gemcut eval --tasks ifeval")
    parser.add_argument("--data", type=Path, default=SHARED, help="folder of the data sets")
    arguments = parser.parse_args()
    wishes = [row["instruction_id_list"] for row in read(arguments.data / "ifeval" / "input_data.jsonl.gz")]
    runs = [{int(item.item_id): item for item in read_run(run).items("ifeval")} for run in arguments.runs]
    followed: dict[str, list[list[float]]] = defaultdict(list)
    for number, names in enumerate(wishes):
        if len(names) == 1:
            followed[names[0]].append([run[number].metrics["prompt_level_strict_acc"] for run in runs])
    for name, both in sorted(followed.items()):
        counts = [int(sum(column)) for column in zip(*both, strict=True)]
        print(f"{name:<45} {len(both):>3} prompts  A {counts[0]:>3}  B {counts[1]:>3}")
    medians = [statistics.median(len(item.answers[0].split()) for item in run.values()) for run in runs]
    print(f"words of the answer in the middle: A {medians[0]:g}, B {medians[1]:g}")


if __name__ == "__main__":
    main()
