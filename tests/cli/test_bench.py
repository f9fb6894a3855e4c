"""`gemcut bench` passes its options on and prints the figures."""

import json
import sys
import types

import pytest


@pytest.fixture
def calls(monkeypatch):
    """Calls of the measuring function, which returns fixed figures."""
    seen = []

    def bench(model, **options):
        seen.append((model, options))
        return {"decode_tokens_per_second": 1234.5678, "prompt_tokens": 512, "engine": "jax"}

    module = types.ModuleType("gemcut.inspect.bench")
    module.bench = bench
    monkeypatch.setitem(sys.modules, "gemcut.inspect.bench", module)
    return seen


def test_defaults_are_those_of_the_contract(calls, invoke):
    result = invoke("bench", "starter")
    assert result.exit_code == 0
    assert calls == [
        (
            "starter",
            {
                "prompt_tokens": 512,
                "decode_tokens": 64,
                "depth": 0,
                "batch": 1,
                "random_weights": False,
                "engine": "auto",
                "dtype": "auto",
                "threads": None,
            },
        )
    ]
    assert "decode_tokens_per_second  1,234.568" in result.stdout


def test_options_and_json(calls, invoke):
    flags = "--prompt-tokens 8 --decode-tokens 4 --depth 16 --batch 2 --random-weights --engine jax --threads 1 --json"
    result = invoke("bench", "gemma-2b", *flags.split())
    assert json.loads(result.stdout)["decode_tokens_per_second"] == 1234.5678
    model, options = calls[0]
    assert model == "gemma-2b"
    assert (options["depth"], options["batch"], options["random_weights"], options["threads"]) == (16, 2, True, 1)
