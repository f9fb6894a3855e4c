"""`gemcut models` prints a table, or JSON."""

import json

import pytest

ROW = {
    "reference": "hf:a/b",
    "path": "/x",
    "size_bytes": 5 * 2**20,
    "format": "hf",
    "licence": "Apache-2.0",
    "last_used": "2026-11-23T10:00:00+00:00",
    "complete": True,
}
UNKNOWN = ROW | {"reference": "hf:c/d", "format": None, "licence": None, "last_used": None}


@pytest.fixture
def rows(monkeypatch):
    found = [ROW, UNKNOWN, UNKNOWN | {"reference": "gs://e/f", "complete": False}]
    monkeypatch.setattr("gemcut.inspect.list_models", lambda: found)
    return found


def test_table(invoke, rows):
    result = invoke("models")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "MODEL     SIZE   FORMAT      LICENCE     LAST READ",
        "hf:a/b    5 MiB  hf          Apache-2.0  2026-11-23",
        "hf:c/d    5 MiB  not read    not known   -",
        "gs://e/f  5 MiB  unfinished  not known   -",
    ]


def test_json(invoke, rows):
    assert json.loads(invoke("models", "--json").stdout) == rows


def test_nothing_here_says_how_to_get_something(invoke, rows):
    rows.clear()
    result = invoke("models")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No model is on this machine. Get one: gemcut pull REF" in result.stderr
