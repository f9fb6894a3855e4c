"""The listing of local models names format and licence, and survives models that cannot be read."""

import json

import pytest

from gemcut.inspect import list_models


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    for name in ("HF_HUB_CACHE", "KAGGLEHUB_CACHE", "GEMCUT_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


def test_rows(caches, write_tiny_model):
    hub = caches / "HF_HUB_CACHE"
    write_tiny_model(hub / "models--google--gemma-2b" / "snapshots" / "0")
    unknown = hub / "models--me--mine" / "snapshots" / "0"
    unknown.mkdir(parents=True)
    (unknown / "README.md").write_bytes(b"x" * (5 * 1024 * 1024))
    (hub / "models--me--part" / "blobs").mkdir(parents=True)
    rows = list_models()
    json.dumps(rows)
    assert [(row["reference"], row["format"], row["licence"], row["complete"]) for row in rows] == [
        ("hf:google/gemma-2b@0", "hf", "Gemma Terms of Use", True),
        ("hf:me/mine@0", None, None, True),
        ("hf:me/part", None, None, False),
    ]
    assert rows[0]["last_used"].endswith("+00:00")
    assert rows[2]["last_used"] is None
