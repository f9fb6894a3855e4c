"""Which solved examples precede a question."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemcut.errors import NotFoundError, UsageError
from gemcut.evaluate.data import DataFolders
from gemcut.evaluate.examples import ExampleSet
from gemcut.evaluate.task import Task
from gemcut.evaluate.task_file import task_of


def rows(name: str, number: int) -> list[dict[str, Any]]:
    return [{"q": f"{name}{place}", "choices": ["a", "b"], "gold": 0, "kind": place % 2} for place in range(number)]


@pytest.fixture
def make(write_rows: Callable[..., Path]) -> Callable[..., Task]:
    def make_task(**shots: Any) -> Task:
        folder = write_rows({"rows.jsonl": rows("t", 8), "train.jsonl": rows("e", 4)})
        given = {
            "title": "Own", "kind": "choices", "data": {"set": ".", "file": "rows.jsonl"}, "prompt": "{{ q }}",
            "choices": "choices", "gold": "gold", "separator": "|", "description": "D{{ kind }}: ",
            "shots": {"files": ["train.jsonl"], **shots},
        }  # fmt: skip
        return task_of(given, "own", "own.yaml", folder)

    return make_task


def shown(examples: ExampleSet, number: int = 0) -> list[str]:
    """The questions of the examples before an item."""
    item = examples.task.items(DataFolders())[number]
    before = examples.before(item)
    assert before.startswith(f"D{item.row['kind']}: ")
    return [each.removesuffix(" a") for each in before[4:].split("|")[:-1]]


def test_fixed_examples_are_the_same_for_all_and_follow_the_seed(make: Callable[..., Task]) -> None:
    first, second = (ExampleSet(make(), DataFolders(), 2, seed) for seed in (0, 1))
    assert shown(first, 0) == shown(first, 5)
    assert shown(first) != shown(second)


def test_the_first_ones_in_order(make: Callable[..., Task]) -> None:
    assert shown(ExampleSet(make(order="first"), DataFolders(), 3, seed=9)) == ["e0", "e1", "e2"]


def test_some_rows_only(make: Callable[..., Task]) -> None:
    assert shown(ExampleSet(make(order="first", only="kind == 1"), DataFolders(), 2)) == ["e1", "e3"]


def test_those_that_have_something_in_common_with_the_item(make: Callable[..., Task]) -> None:
    examples = ExampleSet(make(order="first", same="kind"), DataFolders(), 2)
    assert [shown(examples, 0), shown(examples, 1)] == [["e0", "e2"], ["e1", "e3"]]


def test_rows_of_the_scored_file_serve_where_others_are_too_few(make: Callable[..., Task]) -> None:
    examples = ExampleSet(make(files=["train.jsonl", "rows.jsonl"]), DataFolders(), 6)
    assert sorted(each[0] for each in shown(examples)) == ["e"] * 4 + ["t"] * 2
    assert len(examples.held_out) == 2
    numbers = ", ".join(str(number + 1) for number in sorted(examples.held_out))
    assert examples.notes == [
        f"2 of the 6 examples are rows of the scored file (no others can be had); they are not scored: rows {numbers}."
    ]
    assert not examples.held_out & {item.number for item in examples.task.items(DataFolders(), examples.held_out)}


def test_none_are_asked_for(make: Callable[..., Task]) -> None:
    assert shown(ExampleSet(make(), DataFolders(), 0)) == []


@pytest.mark.parametrize("spare", [0, 1])
def test_examples_of_each_item_are_those_that_the_harness_draws(make: Callable[..., Task], spare: int) -> None:
    examples = ExampleSet(make(without_item=bool(spare)), DataFolders(), 2, sampling="lm-eval")
    stream = random.Random(1234)
    expected = [stream.sample(range(4), 2 + spare)[:2] for _ in range(8)]
    order = [3, 0, 7]  # whichever is asked first
    assert [shown(examples, number) for number in order] == [[f"e{each}" for each in expected[n]] for n in order]


def test_no_item_is_its_own_example(make: Callable[..., Task]) -> None:
    examples = ExampleSet(make(files=["rows.jsonl"]), DataFolders(), 7, sampling="lm-eval")
    for number in range(8):
        assert sorted(shown(examples, number)) == [f"t{each}" for each in range(8) if each != number]
    assert not examples.held_out


@pytest.mark.parametrize(
    ("shots", "number", "message"),
    [
        ({}, 5, r"^--shots 5: own has 4 examples, expected as many\. Ask for fewer\.$"),
        ({"same": "kind", "order": "first"}, 3, r"^--shots 3: own has 2 examples for '0', expected as many\."),
        ({"files": []}, 1, r"^--shots 1: own has 0 examples"),
    ],
)
def test_too_few_examples(make: Callable[..., Task], shots: dict[str, Any], number: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shown(ExampleSet(make(**shots), DataFolders(), number))


@pytest.mark.parametrize(("without_item", "number"), [(False, 5), (True, 4)])
def test_too_few_for_each_its_own(make: Callable[..., Task], without_item: bool, number: int) -> None:
    with pytest.raises(UsageError, match=rf"has {number - 1} examples, expected as many"):
        ExampleSet(make(without_item=without_item), DataFolders(), number, sampling="lm-eval")


def test_other_examples_serve_where_a_file_is_not_here(make: Callable[..., Task]) -> None:
    examples = ExampleSet(make(files=["lost.jsonl"], fallback=["rows.jsonl"]), DataFolders(), 2)
    assert len(examples.held_out) == 2
    assert examples.notes[0].endswith("lost.jsonl are not on this machine; others serve.")


def test_the_others_do_not_serve_where_the_file_is_here(make: Callable[..., Task]) -> None:
    with pytest.raises(UsageError, match="own has 4 examples"):
        ExampleSet(make(fallback=["rows.jsonl"]), DataFolders(), 5)


def test_too_few_without_the_file_that_is_not_here(make: Callable[..., Task]) -> None:
    with pytest.raises(NotFoundError, match=r"lost\.jsonl: not in "):
        ExampleSet(make(files=["train.jsonl", "lost.jsonl"]), DataFolders(), 5)
