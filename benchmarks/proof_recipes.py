"""What the recipes teach: a task's score of the starter before and after, with intervals; reports and JSON are kept.

python benchmarks/proof_recipes.py [gsm8k] [arc] [classification] [--data DIR] [--work DIR] [--threads N] [--limit N]

GSM8K is learnt from its training split and asked from its test split, without solved examples for both (the base with
the task's five as well); ARC from both its training splits, and both its test splits are asked. The classifier learns
from four of five sentences of ToxiGen's demonstrations; the fifth are asked, equal sentences on one side. The whole of
the recipe is kept beside the figures, and the run's report.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from run import machine

HERE = Path(__file__).resolve().parent
RECIPES, RESULTS = HERE.parent / "recipes", HERE / "results" / "recipes"
NUM_PARTS = 5  # one of them is asked, the others are learnt
TASK = r"""
title: Hateful or neutral, sentences of ToxiGen's demonstrations
kind: choices
data: {set: ., file: asked.jsonl}
fields: [text, label]
prompt: "Sentence: {{ text }}\nHateful or neutral:"
choices: "['hate', 'neutral']"
gold: "1 if label == 'neutral' else 0"
metrics: [acc]
"""


def main() -> None:
    """Measure before, train, measure after, compare and keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", default=["gsm8k", "arc", "classification"], metavar="NAME")
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "datasets")
    parser.add_argument("--work", type=Path, default=Path("recipes-measured"), help="where the runs lie; resumed")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--limit", type=int, help="records of GSM8K that are learnt [default: all]")
    arguments = parser.parse_args()
    for name in arguments.names:
        folder = arguments.work / name
        folder.mkdir(parents=True, exist_ok=True)
        asked, data, flags = PREPARE[name](folder, arguments)
        figures = measured(name, folder, asked, data, flags, arguments)
        keep(name, folder, arguments.data, figures)


def prepare_gsm8k(folder: Path, arguments: argparse.Namespace) -> tuple[list[str], Path, list[str]]:
    """The task's flags, the data to learn and the flags of tuning."""
    limit = [] if arguments.limit is None else ["--limit", str(arguments.limit)]
    asked = ["--tasks", "gsm8k", "--data", str(arguments.data)]
    return asked, arguments.data / "gsm8k" / "train.jsonl.gz", limit


def prepare_arc(folder: Path, arguments: argparse.Namespace) -> tuple[list[str], Path, list[str]]:
    """The same; each question comes with the right one of its choices."""
    lines = []
    for part in ("arc_easy", "arc_challenge"):
        for row in rows_of(arguments.data / part / "train.jsonl.gz"):
            lines.append(json.dumps({"question": row["question"], "answer": row["choices"][row["gold"]]}) + "\n")
    (folder / "learnt.jsonl").write_text("".join(lines))
    asked = ["--tasks", "arc_easy,arc_challenge", "--data", str(arguments.data)]
    return asked, folder / "learnt.jsonl", []


def prepare_classification(folder: Path, arguments: argparse.Namespace) -> tuple[list[str], Path, list[str]]:
    """The same; sentences are sent to their side by a hash of their words."""
    learnt, asked = [], []
    for row in rows_of(arguments.data / "toxigen" / "demonstrations.jsonl.gz"):
        words = " ".join(row["text"].lower().split())
        side = asked if hashlib.sha256(words.encode()).digest()[0] % NUM_PARTS == 0 else learnt
        side.append(json.dumps(row) + "\n")
    (folder / "learnt.jsonl").write_text("".join(learnt))
    (folder / "asked.jsonl").write_text("".join(asked))
    (folder / "task.yaml").write_text(TASK)
    return ["--tasks", str(folder / "task.yaml")], folder / "learnt.jsonl", []


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a gzipped JSONL file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


PREPARE = {"gsm8k": prepare_gsm8k, "arc": prepare_arc, "classification": prepare_classification}


def measured(
    name: str, folder: Path, asked: list[str], data: Path, flags: list[str], arguments: argparse.Namespace
) -> dict[str, Any]:
    """What was reached before and after."""
    threads = ["--threads", str(arguments.threads)]
    run = folder / "run"
    gemcut("tune", str(RECIPES / f"{name}.yaml"), str(data), "--output", str(run), *flags, *threads)
    evaluate = ["eval", "starter", *asked, "--engine", "native", *threads, "--output"]
    if name == "gsm8k":
        gemcut(*evaluate, str(folder / "base-with-examples"))
    gemcut(*evaluate, str(folder / "base"), "--shots", "0")
    gemcut(*evaluate, str(folder / "tuned"), "--shots", "0", "--adapter", str(run / "adapter"))
    compared = gemcut("eval", "compare", str(folder / "base"), str(folder / "tuned"), "--json", read=True)
    runs = [each for each in ("base-with-examples", "base", "tuned") if (folder / each).is_dir()]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "python benchmarks/proof_recipes.py " + " ".join(sys.argv[1:]),
        "machine": machine(),
        "scores": {each: json.loads((folder / each / "results.json").read_text())["tasks"] for each in runs},
        "compared": json.loads(compared),
    }


def gemcut(*arguments: str, read: bool = False) -> str:
    """Run a command of Gemcut; its standard output where it is to be read.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    print("gemcut", *arguments, flush=True)
    output = subprocess.PIPE if read else None
    done = subprocess.run([sys.executable, "-m", "gemcut", *arguments], check=True, stdout=output, text=True)
    return done.stdout or ""


def without_places(text: str, folder: Path, data: Path) -> str:
    """The text without the names of this machine's folders."""
    for place, name in ((folder, "."), (data, "datasets"), (RECIPES, "recipes")):
        text = text.replace(str(place.resolve()), name).replace(str(place), name)
    return text


def keep(name: str, folder: Path, data: Path, figures: dict[str, Any]) -> None:
    """The figures, and what the run says of itself."""
    target = RESULTS / name
    target.mkdir(parents=True, exist_ok=True)
    (target / "scores.json").write_text(without_places(json.dumps(figures, indent=1) + "\n", folder, data))
    for file in ("report.html", "curves.svg", "recipe.yaml"):
        (target / file).write_text(without_places((folder / "run" / file).read_text(), folder, data))
    print(json.dumps(figures["scores"], indent=1))


if __name__ == "__main__":
    main()
