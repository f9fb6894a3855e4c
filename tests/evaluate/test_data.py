"""Rows of data sets, and what is wrong with their files."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from gemcut.errors import DataError, NotFoundError
from gemcut.evaluate import data as data_module
from gemcut.evaluate.data import DataFolders, known_data_sets


@pytest.fixture(autouse=True)
def _cache_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path / "cache"))


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / "own" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", '{"a": "é\u2028b"}\n\n{"a": 2}\n'.encode(), [{"a": "é\u2028b"}, {"a": 2}]),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}'), [{"a": 1}]),
        ("a.csv", b'a,b\r\n1,"x\r\ny"\r\n', [{"a": "1", "b": "x\r\ny"}]),
        ("a.tsv", b"a\tb\n1\t2\n", [{"a": "1", "b": "2"}]),
        ("a.txt", b"\xef\xbb\xbfone\n\ntwo\n", [{"text": "one"}, {"text": "two"}]),
    ],
)
def test_each_kind_of_file(tmp_path: Path, name: str, content: bytes, expected: list[dict[str, Any]]) -> None:
    written(tmp_path, name, content)
    assert DataFolders([tmp_path]).rows("own", name) == expected


def test_folders_come_before_the_cache_and_a_packed_file_may_lie_there_unpacked(tmp_path: Path) -> None:
    written(tmp_path / "cache" / "datasets", "a.jsonl.gz", gzip.compress(b'{"a": 1}'))
    written(tmp_path / "first", "b.jsonl", b'{"b": 1}')
    folders = DataFolders([tmp_path / "first"])
    assert folders.rows("own", "a.jsonl.gz") == [{"a": 1}]
    assert folders.rows("own", "b.jsonl.gz") == [{"b": 1}]
    assert folders.digest("own", "a.jsonl.gz") == hashlib.sha256(b'{"a": 1}').hexdigest()
    assert folders.path("own", "b.jsonl.gz") == tmp_path / "first" / "own" / "b.jsonl"


def test_a_file_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(
        NotFoundError, match=r"^own/a\.jsonl: not in .*first, .*cache/datasets\. Name a folder of data sets"
    ):
        DataFolders([tmp_path / "first"]).rows("own", "a.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": 2', r"a\.jsonl, line 2: "),
        ("a.jsonl", b'{"a": 1}\n[1]', r"a\.jsonl, line 2: is '\[1\]', expected a JSON object\.$"),
        ("a.jsonl", b'{"a": 1, "a": 2}', r"a\.jsonl, line 1: .*key 'a' occurs twice"),
        ("a.jsonl", b'{"a": NaN}', r"a\.jsonl, line 1: .*NaN is not a JSON number"),
        ("a.jsonl", b"\xff", r"a\.jsonl: byte 0 is not UTF-8, expected text in UTF-8\. Convert it\.$"),
        ("a.jsonl.gz", b"x", r"a\.jsonl\.gz: is not a whole gzip file \("),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}' * 99)[:-9], r"a\.jsonl\.gz: is not a whole gzip file \("),
        ("a.csv", b"a,b\n1\n", r"a\.csv, line 2: has another number of fields than the first line\.$"),
        ("a.csv", b"a,b\n1,2,3\n", r"a\.csv, line 2: has another number of fields"),
        (
            "a.parquet",
            b"",
            r"a\.parquet: ends in '\.parquet', expected \.jsonl, \.csv, \.tsv or \.txt, or one of them and \.gz",
        ),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    written(tmp_path, name, content)
    with pytest.raises(DataError, match=message):
        DataFolders([tmp_path]).rows("own", name)


def test_a_file_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "MAX_UNPACKED_BYTES", 10)
    written(tmp_path, "a.jsonl.gz", gzip.compress(b" " * 11))
    with pytest.raises(
        DataError, match=r"a\.jsonl\.gz: unpacks to more than 10 bytes, expected fewer\. It is no data set\.$"
    ):
        DataFolders([tmp_path]).rows("own", "a.jsonl.gz")


@pytest.mark.parametrize(("data_set", "sha256"), [("piqa", None), ("own", "0" * 64)])
def test_another_file_than_the_one_that_is_known(tmp_path: Path, data_set: str, sha256: str | None) -> None:
    path = tmp_path / data_set / "validation.jsonl.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(b'{"goal": "x"}'))
    with pytest.raises(
        DataError, match=r"the SHA-256 of its contents is \w+, expected \w+\. It is damaged or another version"
    ):
        DataFolders([tmp_path]).rows(data_set, "validation.jsonl.gz", sha256)


def test_every_known_file_has_what_a_check_needs() -> None:
    for facts in known_data_sets().values():
        assert facts["licence"]
        assert facts["source"]
        for file in facts["files"].values():
            assert (len(file["sha256"]), file["rows"] > 0) == (64, True)


def test_every_known_file_is_what_lies_beside_the_checkout(shared_folder: Path) -> None:
    folders = DataFolders([shared_folder / "datasets"])
    for data_set, facts in known_data_sets().items():
        for file in facts["files"]:
            folders.check(data_set, file)


def test_a_file_is_read_once(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", json.dumps({"a": 1}).encode())
    folders = DataFolders([tmp_path])
    first = folders.rows("own", "a.jsonl")
    path.unlink()
    assert folders.rows("own", "a.jsonl") is first
