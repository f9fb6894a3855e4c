"""Safe reading and atomic writing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemcut.errors import CheckpointError, ConfigError, GemcutError, NotFoundError
from gemcut.files import (
    atomic_write_bytes,
    atomic_write_text,
    forget_pages,
    map_file,
    read_bytes,
    read_json,
    sha256_of,
)


def refuse(*arguments: Any, **named: Any) -> Any:
    raise PermissionError(13, "Permission denied")


def test_reads_and_maps_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a": [1, 2.5, null]}')
    assert read_json(path) == {"a": [1, 2.5, None]}
    assert bytes(map_file(path)[:4]) == b'{"a"'
    assert read_bytes(path, 100) == path.read_bytes()
    (tmp_path / "empty").touch()
    assert map_file(tmp_path / "empty") == b""


@pytest.mark.parametrize("read", [read_json, map_file, sha256_of, lambda path: read_bytes(path, 9)], ids=str)
def test_missing_files_and_folders_are_named(read: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"a\.json: no such file\. Check the path"):
        read(tmp_path / "a.json")
    with pytest.raises(CheckpointError, match="is a folder or a device, expected a file"):
        read(tmp_path)


@pytest.mark.parametrize("read", [read_json, map_file, sha256_of], ids=["read_json", "map_file", "sha256_of"])
def test_unreadable_files_are_named(read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_text("{}")
    monkeypatch.setattr("gemcut.files.open", refuse, raising=False)
    with pytest.raises(CheckpointError, match=r"a\.json: cannot be read \(Permission denied\)"):
        read(path)


def test_unreadable_folders_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(ConfigError, match=r"cannot be read \(Permission denied\)\. Check its permissions"):
        read_json(tmp_path / "a.json", error=ConfigError)


BAD_JSON = {
    "garbage": (b"\x00\xff", "is not valid JSON"),
    "cut short": (b'{"a": 1', "is not valid JSON"),
    "key twice": (b'{"a": 1, "a": 2}', "key 'a' occurs twice"),
    "NaN": (b'{"a": NaN}', "NaN is not a JSON number"),
    "huge number": (b"9" * 5000, "is not valid JSON"),
    "nested": (b"[" * 200_000, "nested too deeply"),
    "too large": (b"[" + b" " * 300_000 + b"]", "is 300002 bytes, expected at most 250000"),
}


@pytest.mark.parametrize(("data", "message"), BAD_JSON.values(), ids=BAD_JSON)
def test_bad_json_is_named(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        read_json(tmp_path / "a.json", 250_000, ConfigError)


def test_digest_reports_its_progress(tmp_path: Path) -> None:
    data = b"gem" * 3_000_000
    (tmp_path / "a").write_bytes(data)
    seen: list[int] = []
    assert sha256_of(tmp_path / "a", seen.append) == hashlib.sha256(data).hexdigest()
    assert seen == sorted(seen)
    assert seen[-1] == len(data)


def test_writing_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic_write_text(path, "old, and longer")
    atomic_write_text(path, "neu: ü")
    assert path.read_text("utf-8") == "neu: ü"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_failed_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(GemcutError, match=r"a\.txt: could not be written \(Permission denied\)"):
        atomic_write_bytes(path, b"new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_writing_into_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(GemcutError, match=r"could not be written \(No such file or directory\)"):
        atomic_write_bytes(tmp_path / "missing" / "a", b"")


def test_forgotten_pages_can_be_read_again(tmp_path: Path) -> None:
    values = np.arange(10_000, dtype=np.uint32)
    values.tofile(tmp_path / "f")
    mapped = np.frombuffer(map_file(tmp_path / "f"), np.uint8)
    part = mapped[4 * 1500 : 4 * 9000].view(np.uint32)
    assert np.array_equal(part, values[1500:9000])
    forget_pages(part)
    assert np.array_equal(part, values[1500:9000])
    for other in (values, np.frombuffer(b"abc", np.uint8), np.empty(0)):
        before = other.copy()
        forget_pages(other)
        assert np.array_equal(other, before)
