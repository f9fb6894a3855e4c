"""Reading what a run wrote, and naming what is wrong with it."""

from __future__ import annotations

import json

import pytest

from gemcut.errors import DataError, NotFoundError
from gemcut.evaluate.run_folder import read_run


def change(run, edit):
    path = run / "results.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    edit(facts)
    path.write_text(json.dumps(facts), encoding="utf-8")


def test_facts_and_items(card_run):
    run = read_run(card_run)
    assert run.model_name == "starter"
    assert list(run.tasks)[:2] == ["hellaswag", "boolq"]
    items = run.items("boolq")
    assert len(items) == run.tasks["boolq"]["num_items"] == 327
    assert items[0].item_id == "0"
    assert set(items[0].metrics) == {"acc"}


def test_last_line_that_was_cut_off_is_left_out(card_run):
    path = card_run / "items" / "boolq.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    assert len(read_run(card_run).items("boolq")) == 326


def test_item_that_occurs_twice(card_run):
    path = card_run / "items" / "boolq.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines, lines[-1]]), encoding="utf-8")
    with pytest.raises(DataError, match="the item '326' occurs twice, expected each once.*--fresh"):
        read_run(card_run).items("boolq")


def test_folder_of_no_run(tmp_path):
    with pytest.raises(NotFoundError, match="holds no results.json, expected the folder that `gemcut eval MODEL"):
        read_run(tmp_path)


def test_other_version(card_run):
    change(card_run, lambda facts: facts.update(format=2))
    with pytest.raises(DataError, match="its format is 2, expected 1. It was written by another version of Gemcut"):
        read_run(card_run)


def test_no_object(card_run):
    (card_run / "results.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="its format is None, expected 1"):
        read_run(card_run)


@pytest.mark.parametrize("key", ["model", "tasks"])
def test_missing_part(card_run, key):
    change(card_run, lambda facts: facts.pop(key))
    with pytest.raises(DataError, match=f"has no '{key}', expected what the runner writes. The file is damaged"):
        read_run(card_run)


def test_model_without_a_name(card_run):
    change(card_run, lambda facts: facts["model"].pop("name"))
    with pytest.raises(DataError, match="the model has no name"):
        read_run(card_run)


def test_task_without_a_key(card_run):
    change(card_run, lambda facts: facts["tasks"]["piqa"].pop("num_total"))
    with pytest.raises(DataError, match="task 'piqa' has no 'num_total', expected what the runner writes"):
        read_run(card_run)
