"""Items of `gemcut eval`'s tasks, what Gemcut asks about them, and where lm-evaluation-harness has the same rows."""

from __future__ import annotations

import dataclasses
import math
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gemcut.evaluate.asker import Asker, Question
from gemcut.evaluate.data import DataFolders, Row
from gemcut.evaluate.encoding import Encoded, EncodedScore, Encoder
from gemcut.evaluate.examples import ExampleSet, Sampling
from gemcut.evaluate.task import ChoiceScore, GenerateRequest, Item, Request, ScoreRequest
from gemcut.evaluate.task_file import load_task
from gemcut.generate.text_model import TextModel
from gemcut.hub import cache_folder

HERE = Path(__file__).resolve().parent
DATA = HERE.parent.parent / "shared" / "datasets"
LMEVAL_PYTHON = HERE.parent / ".venv-lmeval" / "bin" / "python"
_MATH = {
    "Algebra": "algebra", "Counting & Probability": "counting_and_prob", "Geometry": "geometry",
    "Intermediate Algebra": "intermediate_algebra", "Number Theory": "num_theory", "Prealgebra": "prealgebra",
    "Precalculus": "precalc",
}  # fmt: skip


def starter_folder() -> Path:
    """The starter in float32 as a Hugging Face folder with its tokenizer, in the cache, made once (1.1 GB)."""
    folder = cache_folder() / "benchmarks" / "starter-hf-float32"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "gemcut", "convert", "starter", str(folder), "--to", "hf", "--type", "F32"]
        subprocess.run([*command, "--quiet"], check=True)
    return folder


def peer_task(task: str, subset: str | None) -> str:
    """The name of lm-eval's task that has an item."""
    if subset is not None and task in ("mmlu", "bbh", "math", "agieval"):
        part = _MATH[subset] if task == "math" else subset.replace("-", "_")
        return {"mmlu": "mmlu_", "bbh": "bbh_cot_fewshot_", "math": "minerva_math_", "agieval": "agieval_"}[task] + part
    return {"crows_pairs": "crows_pairs_english", "winogender": "winogender_all"}.get(task, task)


@dataclasses.dataclass(frozen=True)
class Asked:
    """An item and what is asked about it.

    Attributes:
        item: The item.
        task, doc: lm-eval's name of its task, and the number of the row there.
        before: What precedes its question.
        requests: What Gemcut asks.
    """

    item: Item
    task: str
    doc: int
    before: str
    requests: list[Request]


class TaskItems:
    """Some items of a task with their prompts.

    Args:
        name: The task.
        num_items: How many, spread evenly over the file; None for all.
        shots: Solved examples; None for the task's own number.
        sampling: See `ExampleSet`.
        max_tokens: Longest answer that is written; None for the task's own.
        first: The first items, not spread ones.
    """

    def __init__(
        self,
        name: str,
        num_items: int | None,
        shots: int | None = None,
        sampling: Sampling = "fixed",
        max_tokens: int | None = None,
        first: bool = False,
    ) -> None:
        self.task, self.data = load_task(name), DataFolders([DATA])
        self.shots = self.task.num_shots if shots is None else shots
        self.sampling = sampling
        examples = ExampleSet(self.task, self.data, self.shots, sampling=sampling)
        places: dict[str, int] = {}
        numbered = []
        for item in self.task.items(self.data):
            task = peer_task(name, item.subset)
            places[task] = places.get(task, -1) + 1
            if item.number not in examples.held_out:
                numbered.append((item, task, places[task]))
        count = min(num_items or len(numbered), len(numbered))
        chosen = numbered[:count] if first else [numbered[index * len(numbered) // count] for index in range(count)]
        self.asked: list[Asked] = []
        for item, task, place in chosen:
            before = examples.before(item)
            requests = self.task.requests(item, before)
            if max_tokens is not None:
                requests = [_shortened(each, max_tokens) for each in requests]
            self.asked.append(Asked(item, task, place, before, requests))
        self._drawn = self._example_rows(examples)

    def _example_rows(self, examples: ExampleSet) -> list[Row] | None:
        """The rows that lm-eval is to take examples from; None where its own task has the same ones."""
        task = self.task
        if not self.shots or task.shots.order == "first":
            return None
        pools = [list(self.data.rows(task.data_set, file)) for file in task.shots.files]
        if self.sampling == "lm-eval":
            return [row for pool in pools for row in pool]
        rows: list[Row] = []
        for pool in pools:
            rows += random.Random(0).sample(pool, min(self.shots - len(rows), len(pool)))
        joined = "".join(task.solved(task.prepared(row)) + task.separator for row in rows)
        if joined != examples.examples(self.asked[0].item):
            raise RuntimeError(f"{task.name}: the examples are drawn in another way than here.")
        return rows

    def peer_request(self, max_tokens: int | None = None, **more: Any) -> dict[str, Any]:
        """The request for peer_lmeval.py that has the same items and examples."""
        docs: dict[str, list[int]] = {}
        for asked in self.asked:
            docs.setdefault(asked.task, []).append(asked.doc)
        sampler = "first_n" if self.sampling == "fixed" else "default"
        return {
            "task": self.task.name,
            "docs": {task: sorted(numbers) for task, numbers in docs.items()},
            "shots": self.shots,
            "examples": self._drawn,
            "sampler": sampler,
            "max_tokens": max_tokens,
            **more,
        }

    def encoded(self, encoder: Encoder) -> list[list[Encoded]]:
        """Each item's requests in token ids."""
        return [
            [encoder.encode(request, asked.item.item_id, asked.before) for request in asked.requests]
            for asked in self.asked
        ]

    def answers(self, asker: Asker, encoded: Sequence[Sequence[Encoded]]) -> list[list[Any]]:
        """The model's answers to each item's requests."""
        groups: dict[str, int] = {}
        questions = [
            Question(each, number, groups.setdefault(asked.before, len(groups)), asked.item.item_id)
            for number, (asked, requests) in enumerate(zip(self.asked, encoded, strict=True))
            for each in requests
        ]
        found: dict[int, Any] = {}
        for batch in asker.plan(questions):
            for answered in asker.ask(questions, batch.numbers):
                found.update(answered)
        in_order = iter(found[number] for number in range(len(questions)))
        return [[next(in_order) for _ in requests] for requests in encoded]


def _shortened(request: Request, max_tokens: int) -> Request:
    if isinstance(request, GenerateRequest):
        return dataclasses.replace(request, max_tokens=min(request.max_tokens, max_tokens))
    return request


def words_of(request: Request) -> tuple[str, str | None]:
    """Context and continuation of a request; None for a text that the model is to write."""
    if isinstance(request, ScoreRequest):
        return request.context, request.continuation
    assert isinstance(request, GenerateRequest)
    return request.prompt, None


def ids_of(encoded: Encoded) -> tuple[list[int], int]:
    """Token ids of a request, and how many of the last ones are scored."""
    scored = len(encoded.continuation) if isinstance(encoded, EncodedScore) else 0
    return encoded.token_ids.tolist(), scored


def gap_at(model: TextModel, token_ids: Sequence[int], ours: Sequence[int], theirs: Sequence[int]) -> float:
    """How much more probable, in natural log, the model finds the one than the other where two answers part."""
    shared = next((n for n, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
    if shared is None:  # one ends where the other goes on: no rounding does that
        return 0.0 if len(ours) == len(theirs) else math.inf
    logits = model.logits([*token_ids, *ours[:shared]])[-1]
    return abs(float(logits[ours[shared]] - logits[theirs[shared]]))


__all__ = ["ChoiceScore", "TaskItems", "gap_at", "ids_of", "peer_task", "starter_folder", "words_of"]
