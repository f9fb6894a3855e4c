"""`gemcut calibrate` hands its flags on and prints what was written."""

from __future__ import annotations

import json

import pytest

import gemcut.inspect


@pytest.fixture
def calls(monkeypatch):
    seen = []

    def calibrate(*arguments, progress, **options):
        seen.append((arguments, options))
        return {"target": str(arguments[2]), "engine": "jax", "tokens": 20480, "tensors": 127}

    monkeypatch.setattr(gemcut.inspect, "calibrate", calibrate)
    return seen


def test_flags_reach_the_library_and_the_answer_is_printed(invoke, calls, tmp_path):
    target = tmp_path / "i.gguf"
    result = invoke("calibrate", "starter", str(tmp_path / "book.txt"), "-o", str(target), "--tokens", "1024")
    assert result.exit_code == 0
    [(arguments, options)] = calls
    assert arguments == ("starter", tmp_path / "book.txt", target)
    assert options == {"engine": "auto", "num_tokens": 1024, "threads": None}
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert lines == [["written", str(target)], ["tokens", "20,480 on jax"], ["tensors", "127"]]


def test_json(invoke, calls, tmp_path):
    result = invoke("calibrate", "starter", "book.txt", "-o", "i.gguf", "--engine", "torch", "--threads", "2", "--json")
    assert json.loads(result.stdout) == {"target": "i.gguf", "engine": "jax", "tokens": 20480, "tensors": 127}
    assert calls[0][1] == {"engine": "torch", "num_tokens": 20480, "threads": 2}


def test_output_is_needed(invoke):
    result = invoke("calibrate", "starter", "book.txt")
    assert result.exit_code == 2
    assert "--output" in result.stderr
