"""Records out of every kind of file, and the errors of files that are damaged."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemcut.errors import DataError, GemcutError, MissingExtraError, NotFoundError
from gemcut.tune import records as records_module
from gemcut.tune.records import find_data, read_records

ROWS = [{"prompt": "a\u2028b", "completion": "ä 😀"}, {"prompt": "c", "completion": "line\nbreak"}]


def read(path: Path) -> list[tuple[dict, str]]:
    return [(dict(record.values), record.source.removeprefix(str(path))) for record in read_records(path)]


def lines(rows: list) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


@pytest.mark.parametrize("name", ["data.jsonl", "data.ndjson", "data.json"])
def test_json_lines_are_numbered_as_an_editor_numbers_them(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + lines(ROWS[:1]) + b"\n  \n" + lines(ROWS[1:]))
    assert read(path) == [(ROWS[0], ", line 1"), (ROWS[1], ", line 4")]


@pytest.mark.parametrize("name", ["data.json", "data.jsonl"])
def test_a_json_list(tmp_path, name):
    path = tmp_path / name
    path.write_text("\n " + json.dumps(ROWS, indent=1), encoding="utf-8")
    assert read(path) == [(ROWS[0], ", record 1"), (ROWS[1], ", record 2")]


def test_a_packed_file(tmp_path):
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(gzip.compress(lines(ROWS)))
    assert [values for values, _ in read(path)] == ROWS


def test_csv_with_quoted_line_breaks(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text('prompt,completion\n"a,\n""b""",x\n\nc,"ä"\n', encoding="utf-8")
    assert read(path) == [
        ({"prompt": 'a,\n"b"', "completion": "x"}, ", line 2"),
        ({"prompt": "c", "completion": "ä"}, ", line 5"),
    ]


def test_csv_fields_longer_than_the_csv_module_allows_by_itself(tmp_path):
    path = tmp_path / "data.tsv"
    path.write_text(f"text\tlabel\n{'x' * 200_000}\t1\n", encoding="utf-8")
    assert len(read(path)[0][0]["text"]) == 200_000


def test_parquet(tmp_path):
    path = tmp_path / "data.parquet"
    messages = [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]] * 2
    pyarrow.parquet.write_table(pa.table({"messages": messages}), path)
    assert read(path) == [({"messages": messages[0]}, ", row 1"), ({"messages": messages[0]}, ", row 2")]


def test_a_folder_that_datasets_saved(tmp_path):
    rows = [{"prompt": str(number), "completion": "x"} for number in range(5)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "set", num_shards=2)
    assert read(tmp_path / "set") == [(row, f", row {number}") for number, row in enumerate(rows, 1)]


def test_a_folder_with_splits_names_them(tmp_path):
    split = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(tmp_path / "set")
    with pytest.raises(DataError, match=r"holds the splits train, test, expected one. Name the one to use: .*/train"):
        read(tmp_path / "set")
    assert [values for values, _ in read(tmp_path / "set" / "train")] == ROWS


BROKEN = {
    "broken line": ("a.jsonl", lines(ROWS) + b'{"prompt": "a\n', r"a.jsonl, line 3: is not valid JSON \(.*take it out"),
    "deep": (
        "a (1).jsonl",
        b"\n" + b'{"a":' * 99_999,
        r"a \(1\).jsonl, line 2: its JSON is nested too deeply to be real, exp",
    ),
    "twice": ("a.jsonl", b'{"a": 1, "a": 2}\n', "line 1: is not valid JSON .key 'a' occurs twice"),
    "no object": ("a.jsonl", b"7\n", "line 1: is 7, expected a JSON object"),
    "no objects": ("a.json", b'[{"a": 1}, "x"]', 'a.json, record 2: is "x", expected a JSON object'),
    "half a list": ("a.json", b'[{"a": 1}, ', "a.json: is not valid JSON"),
    "not UTF-8": ("a.jsonl", b'{"a": "\xff"}\n', r"line 1: is not valid JSON \('utf-8' codec"),
    "empty": ("a.jsonl", b"\n\n", "a.jsonl: holds no records"),
    "empty list": ("a.json", b"[]", "a.json: holds no records"),
    "only a header": ("a.csv", b"a,b\n", "a.csv: holds no records"),
    "other kind": ("a.xlsx", b"PK", r"a.xlsx: ends in '.xlsx', expected .jsonl, .json, .csv"),
    "no ending": ("a", b"{}", r"a: ends in 'nothing', expected .jsonl"),
    "fields": ("a.csv", b"a,b\n1,2\n1\n", "a.csv, line 3: has 1 fields, expected 2: a, b"),
    "columns": ("a.csv", b"a,a\n1,2\n", "a.csv, line 1: names the columns"),
    "quotes": ("a.csv", b'a,b\n1,2\n1,"x"y\n', "a.csv, line 3: is not CSV"),
    "csv not UTF-8": ("a.csv", b"a\nx\n\xff\n", "a.csv, line 3: byte 1 is not UTF-8"),
    "no gzip": ("a.jsonl.gz", b"hello", "a.jsonl.gz, line 1: cannot be read .*damaged"),
    "cut gzip": ("a.jsonl.gz", gzip.compress(lines(ROWS * 99))[:90], "a.jsonl.gz, line 2: cannot be read"),
    "no parquet": ("a.parquet", b"PAR1" + bytes(40), "a.parquet: is not a whole parquet file"),
}


@pytest.mark.parametrize(("name", "data", "text"), BROKEN.values(), ids=list(BROKEN))
def test_broken_files_name_what_is_wrong(tmp_path, name, data, text):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=text):
        list(read_records(path))


FILES = {
    "a.jsonl": lines(ROWS), "a.json": json.dumps(ROWS).encode(), "a.csv": b'a,b\n"x\n",2\n', "a.jsonl.gz": gzip.compress(lines(ROWS)),
}  # fmt: skip


@given(st.sampled_from(sorted(FILES)), st.integers(0, 80), st.binary(max_size=3), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_damage_never_ends_in_another_error(tmp_path_factory, name, place, put, taken):
    path = tmp_path_factory.getbasetemp() / name
    data = FILES[name]
    path.write_bytes(data[:place] + put + data[place + taken :])
    with contextlib.suppress(GemcutError):
        assert all(isinstance(record.values, dict) for record in read_records(path))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_parquet_file_that_was_cut(tmp_path, share):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table({"text": ["a" * 100, "b" * 50]}), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match="a.parquet: is not a whole parquet file"):
        list(read_records(path))


def test_sizes_are_limited(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(ROWS * 3))
    monkeypatch.setattr(records_module, "MAX_LINE_BYTES", 20)
    with pytest.raises(DataError, match=r"a.jsonl, line 1: is longer than 20 bytes.*Make it a list"):
        list(read_records(path))
    monkeypatch.setattr(records_module, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(records_module, "MAX_UNPACKED_BYTES", 150)
    with pytest.raises(DataError, match="a.jsonl: unpacks to more than 150 bytes"):
        list(read_records(path))
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS), encoding="utf-8")
    monkeypatch.setattr(records_module, "MAX_LIST_BYTES", 30)
    with pytest.raises(DataError, match="a.json: is a JSON list of more than 30 bytes"):
        list(read_records(path))


STATES = {
    "no state": (None, "is a folder without state.json"),
    "no files": ({}, "names no files in _data_files"),
    "outside": (
        {"_data_files": [{"filename": "../x.arrow"}]},
        r"names the file '../x.arrow', expected one in the same",
    ),
    "no Arrow": ({"_data_files": [{"filename": "x.arrow"}]}, "x.arrow: is not a whole Arrow stream"),
}


@pytest.mark.parametrize(("state", "text"), STATES.values(), ids=list(STATES))
def test_folders_that_are_no_data_set(tmp_path, state, text):
    (tmp_path / "x.arrow").write_bytes(b"\xff\xff\xff\xff\x10\x00\x00\x00" + bytes(9))
    if state is not None:
        (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(DataError, match=text):
        list(read_records(tmp_path))


def test_damaged_split_names(tmp_path):
    (tmp_path / "dataset_dict.json").write_text('{"splits": "train"}')
    with pytest.raises(DataError, match="splits is 'train', expected a list of names"):
        list(read_records(tmp_path))


def test_missing_files(tmp_path):
    with pytest.raises(NotFoundError, match=r"a.jsonl: no such file"):
        list(read_records(tmp_path / "a.jsonl"))


def test_files_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl.gz"
    path.touch()

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(gzip, "open", refuse)
    with pytest.raises(DataError, match=r"a.jsonl.gz: cannot be read \(Permission denied\). Check its permissions"):
        list(read_records(path))


def test_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"Parquet and folders of data sets need pyarrow.*gemcut\[tune\]"):
        list(read_records(tmp_path / "a.parquet"))


def test_data_is_found_here_or_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError, match=r"set/train.jsonl: neither here nor at .*cache/datasets/set/train.jsonl"):
        find_data("set/train.jsonl")
    place = tmp_path / "cache" / "datasets" / "set" / "train.jsonl"
    place.parent.mkdir(parents=True)
    place.touch()
    assert find_data("set/train.jsonl") == place
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").touch()
    assert find_data("set/train.jsonl") == Path("set/train.jsonl")
