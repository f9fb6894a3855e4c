"""Items, requests and scores of tasks, and what is wrong with rows and answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemcut.errors import BackendError, DataError
from gemcut.evaluate.aggregate import ItemResult
from gemcut.evaluate.data import DataFolders
from gemcut.evaluate.perplexity import perplexity_task
from gemcut.evaluate.task import ChoiceScore, RollingRequest, RollingScore, ScoreRequest, Task
from gemcut.evaluate.task_file import task_of

CHOICES = {
    "title": "Own",
    "kind": "choices",
    "data": {"set": ".", "file": "rows.jsonl"},
    "prompt": "{{ q }}",
    "choices": "choices",
    "gold": "gold",
    "metrics": ["acc", "acc_norm"],
}
ROW = {"id": 1, "q": "Which?", "choices": ["one", "two"], "gold": 1}


@pytest.fixture
def own_task(write_rows: Callable[..., Path]) -> Callable[..., Task]:
    """A task of a test on rows of a test; keywords change its file."""

    def make(rows: list[dict[str, Any]], **changes: Any) -> Task:
        return task_of({**CHOICES, **changes}, "own", "own.yaml", write_rows({"rows.jsonl": rows}))

    return make


def test_an_item_from_row_to_score(own_task: Callable[..., Task]) -> None:
    task = own_task([ROW])
    item = task.items(DataFolders())[0]
    assert (item.item_id, item.subset, item.number) == ("0", None, 0)
    assert task.requests(item, "B ") == [ScoreRequest("B Which?", " one"), ScoreRequest("B Which?", " two")]
    assert task.requests(item, "", chat=True) == [ScoreRequest("Which?", "one"), ScoreRequest("Which?", "two")]
    answers = [ChoiceScore(-1.0, 1, True), ChoiceScore(-2.0, 1, False)]
    assert task.score(item, answers) == {"acc": 0.0, "acc_norm": 0.0}
    assert (task.primary_metric, task.executes_code) == ("acc", False)


def test_subsets_labels_and_parts(own_task: Callable[..., Task]) -> None:
    task = own_task(
        [ROW, {"id": 2, "q": "Write", "a": "yes", "part": "b"}],
        subset="part | default('a')",
        labels="['x']",
        metrics=["acc"],
        parts={"b": {"kind": "generate", "choices": None, "gold": "a", "metrics": None, "answer": {}, "stop": ["."]}},
    )
    items = task.items(DataFolders())
    assert [item.subset for item in items] == ["a", "b"]
    scores = [
        task.score(items[0], [ChoiceScore(-2.0, 1, True), ChoiceScore(-1.0, 1, True)]),
        task.score(items[1], ["no"]),
    ]
    assert scores == [{"acc": 1.0, "acc_x": 1.0}, {"exact_match_x": 0.0}]
    figures = task.subset_figures(
        [ItemResult(item.item_id, item.subset, score) for item, score in zip(items, scores, strict=True)]
    )
    assert {subset: sorted(each) for subset, each in figures.items()} == {"a": ["acc", "acc_x"], "b": ["exact_match_x"]}


def test_a_text_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("Größe und\nWert", encoding="utf-8")
    task = perplexity_task(path)
    item = task.items(DataFolders())[0]
    assert task.requests(item, "") == [RollingRequest("Größe und\nWert")]
    metrics = task.score(item, [RollingScore(-10.0, 5)])
    assert metrics == {"logprob": -10.0, "num_tokens": 5.0, "num_words": 3.0, "num_bytes": 16.0}
    assert task.aggregate([ItemResult("0", None, metrics)])["token_perplexity"].value == pytest.approx(math.exp(2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b" \n", r"book\.txt: is empty, expected text\.$"),
        (b"\xff", r"book\.txt: byte 0 is not UTF-8, expected text in UTF-8"),
    ],
)
def test_a_text_that_is_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "book.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        perplexity_task(tmp_path / "book.txt")


@pytest.mark.parametrize("logprob", [math.nan, math.inf])
def test_a_model_that_gives_no_number(own_task: Callable[..., Task], logprob: float) -> None:
    task = own_task([ROW])
    item = task.items(DataFolders())[0]
    message = (
        rf"^own, item 0: the model's log-probability is {logprob}, expected a number\. Weights or engine are broken"
    )
    with pytest.raises(BackendError, match=message):
        task.score(item, [ChoiceScore(-1.0, 1, True), ChoiceScore(logprob, 1, False)])


def ask_all(task: Task) -> None:
    for item in task.items(DataFolders()):
        task.requests(item, "")
        task.gold_of(item)


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        ([ROW, ROW], {}, r"rows\.jsonl: two rows have the id 1, expected each once\. Correct the file\.$"),
        ([ROW, ROW], {"id": "q"}, r"rows\.jsonl: two rows have the q 'Which\?', expected each once"),
        (
            [ROW],
            {"fields": ["q", "a"]},
            r"rows\.jsonl: row 1 has no field 'a', expected q, a\. The file is damaged or of",
        ),
        ([], {}, r"rows\.jsonl: has no rows to score, expected at least one\.$"),
        ([ROW], {"data": {**CHOICES["data"], "only": "id > 1"}}, "has no rows to score"),
        (
            [ROW],
            {"prompt": "{{ x }}"},
            r"own\.yaml, prompt: '\{\{ x \}\}' cannot be filled from a row with the fields .*'x' is",
        ),
        ([ROW], {"choices": "q[3].y"}, r"own\.yaml, choices: .* cannot be filled"),
        (
            [ROW],
            {"choices": "'ab'"},
            r"own, choices: is 'ab', expected a list of two texts or more\. Correct the task\.$",
        ),
        ([ROW], {"choices": "['a']"}, r"own, choices: is \['a'\], expected a list of two"),
        (
            [ROW],
            {"gold": "2"},
            r"own, gold: is 2, expected the number of a choice, from 0 to 1\. Correct the task, or the data",
        ),
        ([ROW], {"gold": "q"}, r"own, gold: is 'Which\?', expected the number of a choice"),
        ([ROW], {"gold": "[]"}, r"own, gold: is \[\], expected the number"),
    ],
)
def test_rows_that_do_not_fit(
    own_task: Callable[..., Task], rows: list[dict[str, Any]], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        ask_all(own_task(rows, **changes))


def test_files_that_do_not_belong_together(write_rows: Callable[..., Path]) -> None:
    folder = write_rows({"rows.jsonl": [ROW], "more.jsonl": [{"q": "Why?", "more": 1}]})
    data = {"set": ".", "file": "rows.jsonl", "join": "more.jsonl", "by": "q"}
    task = task_of({**CHOICES, "data": data}, "own", "own.yaml", folder)
    with pytest.raises(
        DataError, match=r"more\.jsonl: has no row with the q 'Which\?', expected one for each row of rows"
    ):
        task.items(DataFolders())
