"""`gemcut rm` asks before it removes."""

import io
import sys
import types

import pytest


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model in Gemcut's cache."""
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path))
    folder = tmp_path / "gs" / "bucket" / "m"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"x" * 2048)
    return folder


def test_yes_removes_without_asking(invoke, model):
    result = invoke("rm", "gs://bucket/m", "--yes")
    assert (result.exit_code, result.stdout) == (0, "")
    assert str(model) in result.stderr
    assert "gs://bucket/m: removed, 2 KiB are free." in result.stderr
    assert not model.exists()


def test_nobody_to_ask_is_wrong_use(invoke, model):
    result = invoke("rm", "gs://bucket/m")
    assert result.exit_code == 2
    assert "gemcut rm asks before it removes, and standard input is no terminal. Add --yes." in result.stderr
    assert model.exists()


@pytest.mark.parametrize(("answer", "exit_code"), [("y\n", 0), ("Yes\n", 0), ("\n", 1), ("n\n", 1), ("", 1)])
def test_answer_decides(invoke, model, monkeypatch, answer, exit_code):
    terminal = io.StringIO(answer)
    terminal.isatty = lambda: True
    monkeypatch.setattr("gemcut.cli.rm.sys", types.SimpleNamespace(stdin=terminal, stderr=sys.stderr))
    result = invoke("rm", "gs://bucket/m")
    assert result.exit_code == exit_code
    assert "Remove these and free 2 KiB? [y/N]" in result.stderr
    assert model.exists() == bool(exit_code)
    assert ("Nothing was removed." in result.stderr) == bool(exit_code)


def test_what_is_not_here_ends_with_4(invoke, model):
    assert invoke("rm", "gs://bucket/other", "--yes").exit_code == 4
