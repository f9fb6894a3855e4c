"""Tasks of a user's own, as docs/evaluation-tasks.md shows them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gemcut.errors import DataError
from gemcut.evaluate.aggregate import ItemResult
from gemcut.evaluate.data import DataFolders
from gemcut.evaluate.examples import ExampleSet
from gemcut.evaluate.task import ChoiceScore, GenerateRequest, ScoreRequest
from gemcut.evaluate.task_file import load_task, task_names

PAGE = Path(__file__).resolve().parents[2] / "docs" / "evaluation-tasks.md"
FILES = ["capitals.yaml", "capitals.jsonl", "solved.jsonl", "sums.yaml", "sums.jsonl"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The page's files, written as a user would."""
    blocks = re.findall(r"^```(?:yaml|json)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for name, block in zip(FILES, blocks, strict=True):
        (tmp_path / name).write_text(block, encoding="utf-8")
    return tmp_path


def test_the_page_s_choice_task(folder: Path) -> None:
    task, data = load_task(str(folder / "capitals.yaml")), DataFolders()
    examples = ExampleSet(task, data, task.num_shots)
    items = task.items(data, examples.held_out)
    shown = re.search(r"^```text\n(.*?)\n```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert shown
    assert task.requests(items[0], examples.before(items[0])) == [
        ScoreRequest(shown[1], " Lyon"), ScoreRequest(shown[1], " Paris")
    ]  # fmt: skip
    answers = [ChoiceScore(-1.0, 1, True), ChoiceScore(-2.0, 1, False)]
    results = [ItemResult(item.item_id, item.subset, task.score(item, answers)) for item in items]
    assert task.aggregate(results)["acc"].value == 0.5
    assert {name: each["acc"].value for name, each in task.subset_figures(results).items()} == {
        "Africa": 1,
        "Europe": 0,
    }


def test_the_page_s_written_task(folder: Path) -> None:
    task, data = load_task(str(folder / "sums.yaml")), DataFolders()
    item = task.items(data)[0]
    assert task.requests(item, "") == [GenerateRequest("Add 2 and 3.\nThe sum is", ("\n",), 16)]
    assert task.score(item, [" Five."]) == {"first_number": 0.0, "as_written": 1.0}
    assert task.score(item, [" 5, I think"]) == {"first_number": 1.0, "as_written": 0.0}


@pytest.mark.parametrize(
    ("file", "before", "after", "message"),
    [
        ("capitals.jsonl", '"ke"', '"ke', r"capitals\.jsonl, line 2: "),
        ("capitals.jsonl", '"ke"', '"fr"', r"capitals\.jsonl: two rows have the id 'fr', expected each once\."),
        (
            "capitals.jsonl",
            '"right": 0',
            '"wrong": 0',
            r"capitals\.jsonl: row 2 has no field 'right', expected id, question",
        ),
        (
            "capitals.yaml",
            "file: capitals.jsonl",
            f"file: capitals.jsonl, sha256: {'a' * 64}",
            r"the SHA-256 of its contents is",
        ),
        ("capitals.yaml", "kind:", "kin:", r"capitals\.yaml: 'kin' is no key of it"),
        ("capitals.yaml", "{{ question }}", "{{ question", r"capitals\.yaml, prompt: .* is not a Jinja template"),
        ("capitals.yaml", "{{ question }}", "{{ quest }}", r"capitals\.yaml, prompt: .* cannot be filled from a row"),
        ("sums.yaml", "[.,]", "[.,", r"sums\.yaml, answer, remove: '\[\.,' is not a regular expression"),
    ],
)
def test_what_is_wrong_with_the_files(folder: Path, file: str, before: str, after: str, message: str) -> None:
    path = folder / file
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        ask_all(folder / file.replace(".jsonl", ".yaml"))


def ask_all(path: Path) -> None:
    task, data = load_task(str(path)), DataFolders()
    for item in task.items(data):
        task.requests(item, "")


def test_the_page_names_every_key_of_a_task() -> None:
    page = PAGE.read_text(encoding="utf-8")
    from gemcut.evaluate.task_file import _KEYS

    assert [key for key in _KEYS if f"`{key}`" not in page] == ["process", "num_rows", "counted"]  # Gemcut's own
    assert task_names()
