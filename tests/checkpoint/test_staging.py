"""Whole or not at all: kills, full disks, leftovers, and what may be replaced."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gemcut.checkpoint import convert, open_checkpoint
from gemcut.checkpoint.staging import check_target, staged
from gemcut.errors import CheckpointError, GemcutError, NotFoundError, UsageError

LEFTOVER = ".out.0123456789abcdef.unfinished"


def staged_file(target: Path, **options: Any) -> Any:
    return staged(target, **({"is_folder": False, "overwrite": False, "num_bytes": 1} | options))


def test_file_appears_with_those_beside_it(tmp_path: Path) -> None:
    with staged_file(tmp_path / "out") as temporary:
        (temporary / "out").write_text("whole")
        (temporary / "out.Notice.txt").write_text("beside")
        assert not (tmp_path / "out").exists()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"out": "whole", "out.Notice.txt": "beside"}


def fail(problem: BaseException, target: Path, **options: Any) -> None:
    """Write half of something, then fail."""
    with staged_file(target, **options) as temporary:
        (temporary / "out").write_text("half")
        raise problem


@pytest.mark.parametrize("is_folder", [False, True], ids=["file", "folder"])
def test_failure_leaves_nothing(is_folder: bool, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt(), tmp_path / "out", is_folder=is_folder)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_named_and_leaves_the_old(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    message = r"out: could not be written \(No space left on device\); nothing is left of it\. Free space, or choose"
    with pytest.raises(GemcutError, match=message):
        fail(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), tmp_path / "out", overwrite=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_write_that_the_system_refuses_is_named(
    to: str, configs: Any, random_weights: Any, write_hf: Any, tmp_path: Path
) -> None:
    source = write_hf(configs["gemma"], random_weights(configs["gemma"]))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(GemcutError, match=r"out: could not be written \(File too large\); nothing is left of it"):
            convert(source, tmp_path / "out", to)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_space_is_checked_first(tmp_path: Path) -> None:
    with (
        pytest.raises(GemcutError, match=rf"out: needs {10**18:,} bytes, but only [\d,]+ are free there\. Free space"),
        staged_file(tmp_path / "out", num_bytes=10**18),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_the_same_target_go(tmp_path: Path) -> None:
    kept = [".out.0123.unfinished", ".other.0123456789abcdef.unfinished", "out.0123456789abcdef.unfinished"]
    for name in [LEFTOVER, *kept]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "out").write_text("half")
    with staged_file(tmp_path / "out") as temporary:
        (temporary / "out").write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["out", *kept])


def test_what_another_process_writes_stays(tmp_path: Path) -> None:
    (tmp_path / LEFTOVER).mkdir()
    handle = os.open(tmp_path / LEFTOVER, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with staged_file(tmp_path / "out") as temporary:
        (temporary / "out").write_text("whole")
    os.close(handle)
    assert (tmp_path / LEFTOVER).is_dir()


def test_folder_that_stepped_aside_comes_back(tmp_path: Path) -> None:
    aside = tmp_path / ".out.0123456789abcdef.replaced"
    aside.mkdir()
    (aside / "config.json").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt(), tmp_path / "out", is_folder=True, overwrite=True)
    assert (tmp_path / "out" / "config.json").read_text() == "old"
    assert not aside.exists()


def _folder(path: Path, *names: str) -> None:
    path.mkdir()
    for name in names:
        (path / name).mkdir() if name.endswith("/") else (path / name).touch()


@pytest.mark.parametrize(
    ("make", "is_folder", "error", "message"),
    [
        (lambda path: path.touch(), True, UsageError, "is a file, expected a folder to overwrite"),
        (lambda path: path.mkdir(), False, UsageError, "is a folder, expected a file to overwrite"),
        (lambda path: path.symlink_to("x"), False, UsageError, "is a link, expected a file to overwrite"),
        (
            lambda path: _folder(path, "thesis.txt"),
            True,
            UsageError,
            "holds other things than a model, expected config",
        ),
        (lambda path: _folder(path, "config.json", "a/"), True, UsageError, "holds other things than a model"),
    ],
    ids=["file", "folder", "link", "other folder", "folder of folders"],
)
def test_only_a_model_is_overwritten(make: Any, is_folder: bool, error: Any, message: str, tmp_path: Path) -> None:
    make(tmp_path / "out")
    with pytest.raises(error, match=message):
        check_target(tmp_path / "out", is_folder=is_folder, overwrite=True)


@pytest.mark.parametrize("target", [".", "..", "/", "a/.."])
def test_target_without_a_name_is_named(target: str) -> None:
    with pytest.raises(UsageError, match="has no name of its own, expected a path that ends in one"):
        check_target(Path(target), is_folder=True, overwrite=True)


def test_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"a: no such folder\. Create it, or choose another one"):
        check_target(tmp_path / "a" / "out", is_folder=True, overwrite=False)


CONVERSION = """
import sys
from gemcut.checkpoint import convert
convert(sys.argv[1], sys.argv[2], sys.argv[3], type="F32", overwrite=True, progress=lambda *call: print(call, flush=True))
"""


@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_kill_leaves_nothing_that_loads(
    to: str, configs: Any, random_weights: Any, write_hf: Any, tmp_path: Path
) -> None:
    source = write_hf(configs["gemma3"], random_weights(configs["gemma3"]), "bfloat16")
    place = tmp_path / "place"
    place.mkdir()
    for num_calls in random.Random(20).sample(range(1, 27), 3):
        command = [sys.executable, "-c", CONVERSION, source, place / "out", to]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(num_calls):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for path in place.iterdir():
            assert path.name.startswith(".out.")
            with pytest.raises((CheckpointError, NotFoundError)):
                open_checkpoint(path)
    convert(source, place / "out", to)
    assert {path.name.removesuffix(".Notice.txt") for path in place.iterdir()} == {"out"}
    open_checkpoint(place / "out").close()
