"""Every task that Gemcut brings asks what it should; on real rows where they lie beside the checkout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from prompt_cases import CASES, Case
from safety_cases import SAFETY_CASES

from gemcut.evaluate.aggregate import ItemResult
from gemcut.evaluate.data import DataFolders
from gemcut.evaluate.examples import ExampleSet
from gemcut.evaluate.task import ChoiceScore, GenerateRequest, ScoreRequest, Task
from gemcut.evaluate.task_file import load_task, task_names

ALL = [*CASES, *SAFETY_CASES]


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.task)
def test_a_task_asks_what_the_harness_asks(case: Case, task_on: Callable[..., Task]) -> None:
    task, data = task_on(case.task, case.rows), DataFolders()
    examples = ExampleSet(task, data, case.shots)
    item = task.items(data)[0]
    assert examples.before(item) == case.before
    requests = task.requests(item, "BEFORE ")
    if case.continuations:
        questions = [case.question] * len(requests) if isinstance(case.question, str) else case.question
        expected = [ScoreRequest("BEFORE " + q, c) for q, c in zip(questions, case.continuations, strict=True)]
    else:
        part = task.parts.get(item.subset or "", task)
        expected = [GenerateRequest(f"BEFORE {case.question}", part.stop, part.max_tokens)]
    assert requests == expected
    assert task.gold_of(item) == case.gold


@pytest.mark.parametrize(
    "case", [case for case in ALL if not load_task(case.task).executes_code], ids=lambda case: case.task
)
def test_answers_become_figures(case: Case, task_on: Callable[..., Task]) -> None:
    task = task_on(case.task, case.rows)
    item = task.items(DataFolders())[0]
    answers = [
        "So the answer is 2." if isinstance(request, GenerateRequest) else ChoiceScore(-1.0 - number, 1, False)
        for number, request in enumerate(task.requests(item, ""))
    ]
    results = [ItemResult(item.item_id, item.subset, task.score(item, answers)) for _ in range(2)]
    figures = task.aggregate(results)
    names = [name for name in task.metrics if "unsafe" not in name]  # there is only a safe prompt
    if item.subset not in task.parts:
        assert set(names) <= set(figures)
    assert list(task.subset_figures(results)) == ([] if item.subset is None else [item.subset])


def test_every_task_has_a_case() -> None:
    assert {case.task for case in ALL} == set(task_names())


@pytest.mark.parametrize("name", task_names())
def test_a_task_fits_its_real_data(name: str, shared_folder: Path) -> None:
    task, data = load_task(name), DataFolders([shared_folder / "datasets"])
    examples = ExampleSet(task, data, task.num_shots)
    items = task.items(data, examples.held_out)
    assert len({item.item_id for item in items}) == len(items)
    for item in items:
        requests = task.requests(item, examples.before(item))
        task.gold_of(item)
        assert all(isinstance(each, GenerateRequest) or each.continuation.strip() for each in requests)
