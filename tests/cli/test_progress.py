"""A bar is shown on a terminal only."""

from __future__ import annotations

import sys

import pytest

from gemcut.cli.progress import progress_bar


@pytest.mark.parametrize(
    ("is_terminal", "quiet"), [pytest.param(False, False, id="no-terminal"), pytest.param(True, True, id="quiet")]
)
def test_nothing_is_shown(monkeypatch, capsys, is_terminal, quiet):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    with progress_bar(quiet) as progress:
        assert progress is None
    assert capsys.readouterr() == ("", "")


def test_terminal_shows_what_is_at_work(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar(quiet=False) as progress:
        progress("model.norm.weight", 3, 4)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "model.norm.weight" in shown.err
    assert "75%" in shown.err
