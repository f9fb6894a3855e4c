"""Where Gemcut's cache is."""

from pathlib import Path

import pytest

from gemcut.hub import cache_folder


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        pytest.param({"GEMCUT_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a", id="own-variable"),
        pytest.param({"XDG_CACHE_HOME": "/b"}, "/b/gemcut", id="xdg"),
        pytest.param({"HOME": "/c"}, "/c/.cache/gemcut", id="home"),
    ],
)
def test_cache_folder_follows_the_environment(monkeypatch, variables, expected):
    for name in ("GEMCUT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)
