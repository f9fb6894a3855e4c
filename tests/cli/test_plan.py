"""`gemcut plan` prints what the library reckons, in words and as JSON."""

from __future__ import annotations

import importlib
import json

import pytest

from gemcut.inspect.hardware import Hardware

OWN = """
[box]
memory_bytes = 24e9
bandwidth_bytes_per_second = 100e9
source = "its manual"
date = 2026-01-01
price_per_hour = 3.6
price_source = "an invoice"
price_date = 2026-01-02
"""


@pytest.fixture(autouse=True)
def no_models_here(tmp_path, monkeypatch):
    for name in ("HF_HUB_CACHE", "KAGGLEHUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("GEMCUT_HARDWARE", raising=False)


@pytest.fixture
def here(monkeypatch):
    machine = Hardware(
        "this machine", 16 << 30, 32e9, "measured on a chip", "2026-11-23", None, 900e9, is_measured=True
    )
    monkeypatch.setattr(importlib.import_module("gemcut.inspect.plan"), "this_machine", lambda threads: machine)


def test_device_of_the_file(invoke):
    result = invoke("plan", "gemma-2-9b-it", "--on", "nvidia-l4", "--context", "4096")
    assert (result.exit_code, result.stderr) == (0, "")
    words = " ".join(result.stdout.split())
    for part in (
        "model gemma-2-9b-it, 9,241,705,984 parameters, BF16 100%",
        "on nvidia-l4, 22.35 GiB, 300 GB/s (NVIDIA L4 datasheet",
        "2026-11-23)",
        "work answering, 1 x 4,096 tokens",
        "fits yes, ",
        "kv cache",
        "total",
        "decoding after 4,096",
        "tokens/s at most",
        "cost not known: the hardware file has no dated price for it",
    ):
        assert part in words


def test_this_machine(invoke, here):
    result = invoke("plan", "gemma-3-27b-it", "--quiet")
    words = " ".join(result.stdout.split())
    assert result.exit_code == 0
    assert "on this machine, 16.00 GiB, 32 GB/s (measured on a chip, 2026-11-23)" in words
    assert "fits NO, " in words
    assert "too little; the longest context that fits is 0 tokens" in words
    assert "prefill of 512 tokens not known: no figure for this arithmetic" in words
    assert "tokens/s; measured bandwidth" in words


def test_tuning(invoke):
    result = invoke("plan", "gemma-2b", "--on", "tpu-v6e", "--tune", "lora", "--batch", "4")
    words = " ".join(result.stdout.split())
    assert "work tuning (lora), 4 x 2,048 tokens" in words
    for part in ("adapters", "gradients", "optimizer", "residual stream", "training"):
        assert part in words


def test_price_of_the_user(invoke, tmp_path):
    (tmp_path / "own.toml").write_text(OWN, encoding="utf-8")
    words = " ".join(invoke("plan", "gemma-2b", "--on", "box", "--hardware", str(tmp_path / "own.toml")).stdout.split())
    assert "an hour $3.60 (an invoice, 2026-01-02)" in words
    assert "a million tokens, decode $" in words


def test_json_is_what_the_library_returns(invoke):
    from gemcut.inspect import plan

    result = invoke("plan", "gemma-2b", "--on", "nvidia-l4", "--type", "Q4_K_M", "--json")
    assert json.loads(result.stdout) == json.loads(json.dumps(plan("gemma-2b", on="nvidia-l4", type="Q4_K_M")))


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        pytest.param(["--on", "warp-9"], 4, "warp-9: no such hardware", id="no-such-device"),
        pytest.param(["--hardware", "nothing.toml", "--on", "box"], 4, "nothing.toml: no such file", id="no-such-file"),
        pytest.param(["--batch", "0"], 2, "--batch", id="no-sequence"),
        pytest.param(["--tune", "some"], 2, "--tune", id="no-such-tuning"),
        pytest.param(["--on", "nvidia-l4", "--type", "Q3"], 2, "Q3", id="no-such-type"),
        pytest.param(["--on", "nvidia-l4", "--context", "9000"], 2, "the model's context is 8192", id="too-long"),
    ],
)
def test_mistakes_end_with_their_code(invoke, arguments, exit_code, message):
    result = invoke("plan", "gemma-2b", *arguments)
    assert result.exit_code == exit_code
    assert message in result.stderr
