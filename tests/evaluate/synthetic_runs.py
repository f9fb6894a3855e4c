"""Run folders as the runner writes them, with invented scores: what reports and comparisons are tested on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

MODEL = {
    "name": "starter", "weights_sha256": "a5fd3b" + "0" * 58, "tokenizer_sha256": "b" * 64, "engine": "native", "dtype": "Q8_0",
    "device": "cpu", "threads": 2, "config": {"num_hidden_layers": 18, "hidden_size": 640, "vocab_size": 262144},
}  # fmt: skip
# name: (title, kind, metrics with their shares, shots, items)
CARD = {
    "hellaswag": ("HellaSwag", "choices", {"acc_norm": 0.409, "acc": 0.345}, 10, 400),
    "boolq": ("BoolQ", "choices", {"acc": 0.61}, 0, 327),
    "piqa": ("PIQA", "choices", {"acc_norm": 0.68, "acc": 0.675}, 0, 180),
    "triviaqa": ("TriviaQA (Wikipedia)", "generate", {"exact_match": 0.08}, 5, 799),
    "arc_challenge": ("ARC-Challenge", "choices", {"acc_norm": 0.29, "acc": 0.25}, 25, 117),
    "arc_easy": ("ARC-Easy", "choices", {"acc_norm": 0.53, "acc": 0.58}, 0, 237),
    "winogrande": ("WinoGrande", "choices", {"acc": 0.52}, 5, 126),
}


def item_scores(shares: dict[str, float], num_items: int, seed: int) -> list[dict[str, float]]:
    """Items that are right or wrong, with exactly these shares up to rounding."""
    columns = {}
    for index, (metric, share) in enumerate(shares.items()):
        right = np.zeros(num_items)
        right[: round(share * num_items)] = 1
        columns[metric] = np.random.default_rng(seed + index).permutation(right).tolist()
    return [{metric: column[row] for metric, column in columns.items()} for row in range(num_items)]


def figures(items: list[dict[str, float]], is_percent: bool = True) -> dict[str, Any]:
    """Mean and standard error of each metric."""
    found = {}
    for metric in items[0]:
        values = np.array([item[metric] for item in items])
        stderr = None if len(values) < 2 else float(values.std(ddof=1) / math.sqrt(len(values)))
        found[metric] = {
            "value": float(values.mean()), "stderr": stderr, "num_items": len(values), "is_percent": is_percent,
            "higher_is_better": True,
        }  # fmt: skip
    return found


def task_facts(title: str, kind: str, items: list[dict[str, float]], shots: int, **changes: Any) -> dict[str, Any]:
    """What results.json says of a task."""
    facts = {
        "title": title, "kind": kind, "licence": "CC BY-SA 4.0", "num_shots": shots, "shot_sampling": "fixed", "seed": 0,
        "chat": False, "system": None, "limit": None, "num_items": len(items), "num_total": len(items),
        "primary_metric": next(iter(items[0])), "metrics": figures(items), "subsets": {}, "notes": [],
        "data": {"set": title.lower(), "file": "test.jsonl.gz", "sha256": "c" * 64}, "seconds": 12.5, "bos_check": "once",
        "first_prompts": [{"item_id": "0", "token_ids": [2, 9259, 236764], "text": "Question: why?\nAnswer: <b>&"}],
    }  # fmt: skip
    return facts | changes


def write_run(
    folder: Path,
    tasks: dict[str, tuple[dict[str, Any], list[dict[str, float]]]],
    model: dict[str, Any] | None = None,
    **facts: Any,
) -> Path:
    """Write results.json and items/*.jsonl; `tasks` maps names to facts and the items' metrics."""
    (folder / "items").mkdir(parents=True)
    results = {
        "format": 1, "gemcut": "0.5.0", "date": "2026-11-24T12:00:00+00:00",
        "command": "gemcut eval starter --suite gemma3-card", "suite": "gemma3-card", "model": MODEL | (model or {}),
        "machine": {"cpu": "a processor", "cores": 2}, "versions": {"python": "3.11", "numpy": "2.4"},
        "tasks": {name: each[0] for name, each in tasks.items()},
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results | facts), encoding="utf-8")
    for name, (task, items) in tasks.items():
        lines = [json.dumps({"run_key": "d" * 64})]
        subsets = [
            subset for subset, each in task["subsets"].items() for _ in range(next(iter(each.values()))["num_items"])
        ]
        for number, metrics in enumerate(items):
            subset = subsets[number] if subsets else None
            lines.append(
                json.dumps(
                    {"item_id": str(number), "subset": subset, "metrics": metrics, "answers": [], "key": f"{number:x}"}
                )
            )
        (folder / "items" / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def card_tasks(seed: int = 0, **changes: Any) -> dict[str, tuple[dict[str, Any], list[dict[str, float]]]]:
    """The seven tasks of the 270M model's card; `changes` are made to each."""
    found = {}
    for name, (title, kind, shares, shots, num_items) in CARD.items():
        items = item_scores(shares, num_items, seed + len(title))
        found[name] = (task_facts(title, kind, items, shots, **changes), items)
    return found


def mmlu_task(seed: int = 0) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """A task of three parts."""
    parts = {"abstract_algebra": 30, "anatomy": 40, "world_religions": 50}
    items = item_scores({"acc": 0.26}, sum(parts.values()), seed)
    subsets, start = {}, 0
    for part, num_items in parts.items():
        subsets[part] = figures(items[start : start + num_items])
        start += num_items
    return task_facts("MMLU", "choices", items, 5, subsets=subsets), items
