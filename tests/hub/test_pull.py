"""A reference decides which hub is asked."""

import sys

import pytest

from gemcut.errors import UsageError
from gemcut.hub import pull


@pytest.mark.parametrize(
    ("reference", "revision", "message"),
    [
        pytest.param("./model", None, "./model: is a path, so there is nothing to pull", id="path"),
        pytest.param("hf:a/b@v1", "v2", "hf:a/b@v1: names revision v1, and revision v2 is given", id="two-revisions"),
        pytest.param("hf:a", None, "hf:a: not a reference of the form", id="malformed"),
    ],
)
def test_wrong_use_is_named(caches, reference, revision, message):
    with pytest.raises(UsageError, match=message):
        pull(reference, revision=revision)


def test_starter_comes_from_its_package(caches, monkeypatch):
    monkeypatch.setattr(sys.modules["gemcut.hub.pull"], "starter_path", lambda: caches / "starter.gguf")
    assert pull("starter") == caches / "starter.gguf"
