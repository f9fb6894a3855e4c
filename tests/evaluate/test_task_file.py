"""What a task file may say, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gemcut.errors import DataError, NotFoundError, UsageError
from gemcut.evaluate.task_file import load_task, task_names, task_of

CHOICES = {
    "title": "Own", "kind": "choices", "data": {"set": ".", "file": "rows.jsonl"}, "prompt": "{{ q }}",
    "choices": "choices", "gold": "gold",
}  # fmt: skip
TEXT = {
    "title": "Own",
    "kind": "generate",
    "data": {"set": ".", "file": "rows.jsonl"},
    "prompt": "{{ q }}",
    "answer": {},
}


def test_every_task_says_what_people_need() -> None:
    for name in task_names():
        task = load_task(name)
        assert task.title
        assert task.licence
        assert task.fields
        assert task.name == name


def test_the_18_benchmarks_and_the_safety_rows_are_there() -> None:
    assert set(task_names()) >= set(
        "mmlu hellaswag piqa social_iqa boolq winogrande commonsense_qa openbookqa arc_easy arc_challenge triviaqa nq_open "
        "humaneval mbpp gsm8k gsm8k_cot math agieval bbh truthfulqa_mc1 truthfulqa_mc2 crows_pairs bbq winogender winobias "
        "xstest ifeval".split()
    )


def test_programs_run_only_where_they_are_allowed() -> None:
    assert [name for name in task_names() if load_task(name).executes_code] == ["humaneval", "mbpp"]
    scorer = load_task("humaneval").scorer
    assert scorer is not None
    with pytest.raises(UsageError, match="--allow-code-execution"):
        scorer.score("    return 1", {"prompt": "def f():\n", "entry_point": "f", "test": "def check(f): pass"}, [])


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(CHOICES), encoding="utf-8")
    task = load_task(str(path))
    assert (task.name, task.data_set, task.files, task.metrics) == ("mine", str(tmp_path), ("rows.jsonl",), ("acc",))


def test_a_file_of_ones_own_on_a_set_that_gemcut_knows() -> None:
    task = task_of(
        {**CHOICES, "data": {"set": "piqa", "file": "validation.jsonl.gz"}}, "own", "own.yaml", Path("/there")
    )
    assert (task.data_set, task.licence) == ("piqa", load_task("piqa").licence)


def test_no_such_task() -> None:
    with pytest.raises(
        NotFoundError, match=r"^task 'nonsense': expected one of agieval, .*, or a path to a \.yaml file\.$"
    ):
        load_task("nonsense")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", r"own\.yaml: is not YAML \("),
        ("[1, 2]", r"own\.yaml: is list, expected keys and values: title, kind, data, prompt\.$"),
        ("", r"own\.yaml: is NoneType, expected keys and values"),
    ],
)
def test_a_file_that_is_no_task(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_task(str(path))


@pytest.mark.parametrize(
    ("given", "changes", "message"),
    [
        (CHOICES, {"colour": "red"}, r"^own\.yaml: 'colour' is no key of it, expected some of title, kind, "),
        (CHOICES, {"title": 3}, r"^own\.yaml: title is 3, expected str\.$"),
        (CHOICES, {"num_shots": True}, r"^own\.yaml: num_shots is True, expected int\.$"),
        (CHOICES, {"title": None}, r"^own\.yaml: has no 'title', expected title, kind, data, prompt\.$"),
        (CHOICES, {"kind": "guess"}, r"^own\.yaml: kind is 'guess', expected one of choices, generate, rolling\.$"),
        (CHOICES, {"choices": None}, r"^own\.yaml: kind is 'choices', expected of the keys choices, gold and answer: choices, g"),
        (TEXT, {"answer": None}, r"^own\.yaml: kind is 'generate', expected of the keys .*: answer\.$"),
        (TEXT, {"choices": "x"}, r"^own\.yaml: kind is 'generate', expected of the keys .*: answer\.$"),
        (TEXT, {"kind": "rolling"}, r"^own\.yaml: kind is 'rolling', expected of the keys .*: none of them\.$"),
        (CHOICES, {"metrics": ["f1"]}, r"^own\.yaml: metrics has 'f1', expected some of acc, acc_norm, "),
        (CHOICES, {"counted": ["f1"]}, r"^own\.yaml: metrics has 'f1', expected some of acc, acc_norm, "),
        (CHOICES, {"process": "x"}, r"^own\.yaml: process is 'x', expected one of hellaswag, "),
        (CHOICES, {"aggregate": "x"}, r"^own\.yaml: aggregate is 'x', expected one of mean, "),
        (CHOICES, {"num_shots": -1}, r"^own\.yaml: num_shots is -1 and max_tokens 256, expected 0 and 1 at least\.$"),
        (TEXT, {"max_tokens": 0}, r"^own\.yaml: num_shots is 0 and max_tokens 0, expected 0 and 1 at least\.$"),
        (TEXT, {"num_shots": 1}, r"^own\.yaml: has examples \(num_shots\), expected the key target: what an example ends with\.$"),
        (CHOICES, {"prompt": "{{ q"}, r"^own\.yaml, prompt: '\{\{ q' is not a Jinja template \(.*\)\. Correct it\.$"),
        (CHOICES, {"gold": "a b"}, r"^own\.yaml, gold: 'a b' is not a Jinja template"),
        (CHOICES, {"data": {"set": "."}}, r"^own\.yaml, data: names set, expected set, and file or files\.$"),
        (CHOICES, {"data": {}}, r"^own\.yaml, data: names nothing, expected set, and file or files\.$"),
        (CHOICES, {"data": {"set": ".", "file": "a", "join": "b"}}, r"^own\.yaml, data: has one of join and by, expected both or"),
        (CHOICES, {"data": {"set": ".", "file": "a", "size": 1}}, r"^own\.yaml, data: 'size' is no key of it, expected some of set"),
        (CHOICES, {"shots": {"order": "last"}}, r"^own\.yaml, shots: the order is 'last', expected \"random\" or \"first\"\.$"),
        (CHOICES, {"shots": {"process": "x"}}, r"^own\.yaml, shots: process is 'x', expected one of bbh_prompt\.$"),
        (CHOICES, {"parts": {"a": {}}}, r"^own\.yaml: has the key parts, expected the key subset too\. Say which field parts"),
        (CHOICES, {"subset": "s", "parts": {"a": 1}}, r"^own\.yaml, parts, a: is 1, expected keys and values\.$"),
        (TEXT, {"answer": {"kind": "x"}}, r"^own\.yaml, answer: kind is 'x', expected one of text, code, math, "),
        (TEXT, {"answer": {"kind": "code", "form": "x"}}, r"^own\.yaml, answer: form is 'x', expected one of humaneval, mbpp\.$"),
        (TEXT, {"answer": {"kind": "math", "x": 1}}, r"^own\.yaml, answer: x is 1, expected some of kind \(str\)\.$"),
        (TEXT, {"answer": {"remove": ["("]}}, r"^own\.yaml, answer, remove: '\(' is not a regular expression \(.*\)\. Correct it\.$"),
        (TEXT, {"answer": {"extract": {"m": {"pattern": "["}}}}, r"^own\.yaml, answer, m: '\[' is not a regular expression"),
        (TEXT, {"answer": {"extract": {"m": "x"}}}, r"^own\.yaml, answer, m: is 'x', expected keys and values: pattern, which\.$"),
    ],
)  # fmt: skip
def test_what_no_task_says(given: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    changed = {key: value for key, value in {**given, **changes}.items() if value is not None}
    with pytest.raises(DataError, match=message):
        task_of(changed, "own", "own.yaml")


def test_without_pyyaml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    from gemcut.errors import MissingExtraError

    (tmp_path / "own.yaml").write_text("a: 1", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(
        MissingExtraError, match=r"^Evaluation needs PyYAML, which is not installed\. Install the extra: pip"
    ):
        load_task(str(tmp_path / "own.yaml"))
