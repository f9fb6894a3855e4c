"""A task's file outlives its process, and is never another run's."""

from __future__ import annotations

import json
import os

import pytest

from gemcut.errors import DataError, GemcutError, NotFoundError, UsageError
from gemcut.evaluate.item_store import ItemRecord, ItemStore, read_records
from gemcut.evaluate.run_folder import RunFolder
from gemcut.evaluate.task import ChoiceScore, RollingScore

HEADER = {"task": "sums", "model": {"weights_sha256": "aa", "engine": "native"}, "settings": {"limit": None}}
RECORDS = [
    ItemRecord("0", None, "k0", {"acc": 1.0}, (ChoiceScore(-1.25, 3, True), ChoiceScore(-0.1 - 0.2, 1, False))),
    ItemRecord("1", "maths", "k1", {"acc": 0.0}, ("text\n\u2028 \ud800 é",), {"prompts": ["a"]}),
    ItemRecord("2", None, "k2", {"logprob": -7.5}, (RollingScore(-7.5, 4),)),
]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "items").mkdir()
    return tmp_path / "items" / "sums.jsonl"


def stored(path, records=RECORDS):
    store = ItemStore(path, HEADER)
    store.append(records)
    store.close()
    return path


def test_records_come_back_as_they_were(path):
    store = ItemStore(stored(path), HEADER)
    assert list(store.records.values()) == RECORDS
    header, records = read_records(path)
    assert (header, records) == ({"format": 1, **HEADER}, RECORDS)
    assert [item.item_id for item in RunFolder(path.parents[1], {}).items("sums")] == ["0", "1", "2"]


def test_records_are_there_before_the_store_is_closed(path):
    store = ItemStore(path, HEADER)
    store.append(RECORDS[:2])
    assert read_records(path)[1] == RECORDS[:2]
    store.append(RECORDS[2:])
    assert read_records(path)[1] == RECORDS


@pytest.mark.parametrize("cut", [1, 7, 40, 90])
def test_a_line_that_was_cut_off_is_dropped_and_written_again(path, cut):
    data = stored(path).read_bytes()
    path.write_bytes(data[:-cut])
    assert read_records(path)[1] == RECORDS[:2]
    store = ItemStore(path, HEADER)
    assert list(store.records) == ["0", "1"]
    store.append(RECORDS[2:])
    assert path.read_bytes() == data


@pytest.mark.parametrize("data", [b"", b'{"format": 1, "ta'], ids=["empty", "half-a-header"])
def test_a_file_that_was_hardly_begun_is_begun_anew(path, data):
    path.write_bytes(data)
    ItemStore(path, HEADER).append(RECORDS[:1])
    assert read_records(path) == ({"format": 1, **HEADER}, RECORDS[:1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"weights_sha256": "bb", "engine": "native"}}, "weights_sha256 was aa, now it is bb"),
        ({"model": {"weights_sha256": "aa", "engine": "jax"}}, "engine was native, now it is jax"),
        ({"settings": {"limit": 5}}, "limit was None, now it is 5"),
        ({"task": "others"}, "task was sums, now it is others"),
        ({"more": 1}, "more was None, now it is 1"),
    ],
    ids=["weights", "engine", "settings", "task", "key"],
)
def test_the_file_of_another_run_is_refused(path, change, message):
    data = stored(path).read_bytes()
    with pytest.raises(UsageError, match=f"holds answers of another run: {message}. Name another folder with --output"):
        ItemStore(path, HEADER | change)
    assert path.read_bytes() == data
    assert not ItemStore(path, HEADER | change, fresh=True).records


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"\x00\x00{", "line 3: is not JSON"),
        (b"[1, 2]", "line 3: is no item's, expected item_id, subset, metrics, answers, key. The file is damaged"),
        (b'{"item_id": "0", "subset": null, "metrics": {}, "answers": [[1]], "key": "k"}', "line 3: is no item's"),
        (RECORDS[0].line()[:-1], "line 3: item '0' is there twice, expected once. Begin anew with --fresh"),
    ],
    ids=["no-json", "no-object", "answer", "twice"],
)
def test_damage_is_told_with_its_line(path, line, message):
    stored(path, RECORDS[:1])
    path.write_bytes(path.read_bytes() + line + b"\n" + RECORDS[1].line())
    with pytest.raises(DataError, match=message):
        ItemStore(path, HEADER)


def test_keep_leaves_nothing_else(path):
    store = ItemStore(stored(path), HEADER)
    store.keep(iter(RECORDS[1:2]))
    store.append(RECORDS[:1])
    store.close()
    assert read_records(path)[1] == [RECORDS[1], RECORDS[0]]
    assert list(store.records) == ["1", "0"]
    store.close()


def test_a_folder_that_cannot_be_written(path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    store = ItemStore(path, HEADER)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(GemcutError, match=r"could not be written \(No space left on device\)\. Free space"):
            store.append(RECORDS)
    store.close()
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(GemcutError, match=r"cannot be written \(No space left on device\)\. Choose another --output"):
        ItemStore(path, HEADER)


def test_what_is_not_there(path):
    with pytest.raises(NotFoundError):
        read_records(path)
    path.write_bytes(b"")
    assert read_records(path) == ({}, [])


def test_lines_are_json_that_people_can_read(path):
    lines = stored(path).read_text("utf-8").split("\n")
    assert json.loads(lines[2])["answers"] == RECORDS[1].answers or "\\ud800" in lines[2]
    assert "é" in lines[2]
    assert json.loads(lines[1])["answers"] == [[-1.25, 3, True], [-0.30000000000000004, 1, False]]
