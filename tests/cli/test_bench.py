"""`gemcut bench` passes its options on and prints the figures."""

import json
import sys
import types
from pathlib import Path

import pytest

FIGURES = {
    "prefill_tokens_per_second": 1234.5678,
    "decode_tokens_per_second": 38.25,
    "time_to_first_token_seconds": 0.1234,
    "load_seconds": 2.0,
    "first_run_seconds": 9.5,
    "peak_memory_bytes": 3 << 30,
    "weights_bytes": 512 << 20,
    "model": "starter",
    "random_weights": False,
    "prompt_tokens": 512,
    "decode_tokens": 64,
    "repeats": 3,
    "threads": 2,
    "engine": "jax",
    "device": "cpu",
    "dtype": "float32",
    "versions": {"python": "3.11", "jax": "0.10"},
}


@pytest.fixture
def calls(monkeypatch):
    """Calls of the measuring function, which returns fixed figures."""
    seen = []

    def bench(model, **options):
        seen.append((model, options))
        return FIGURES | {"batch": options["batch"], "depth": options["depth"]}

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
                "adapter": None,
            },
        )
    ]
    assert result.stdout.splitlines() == [
        "model        starter",
        "engine       jax, float32, cpu, 2 threads",
        "work         512 prompt tokens, 64 decoded tokens; median of 3 runs after a first one",
        "prefill      1,234.6 tokens/s",
        "decode       38.2 tokens/s",
        "first token  0.123 s after the prompt",
        "load         2.0 s",
        "first run    9.5 s, compiling included",
        "weights      512 MiB in float32",
        "peak memory  3.00 GiB of this process",
        "versions     python 3.11, jax 0.10",
    ]


def test_depth_and_batch_are_told(calls, invoke):
    result = invoke("bench", "starter", "--depth", "1024", "--batch", "4")
    assert "after 1,024 tokens in the cache, 4 sequences at once; median of 3 runs" in result.stdout
    assert "38.2 tokens/s, all 4 sequences together" in result.stdout


def test_options_and_json(calls, invoke):
    flags = "--prompt-tokens 8 --decode-tokens 4 --depth 16 --batch 2 --random-weights --engine jax --threads 1 --json"
    flags += " --adapter some/adapter"
    result = invoke("bench", "gemma-2b", *flags.split())
    assert json.loads(result.stdout)["prefill_tokens_per_second"] == 1234.5678
    model, options = calls[0]
    assert model == "gemma-2b"
    assert (options["depth"], options["batch"], options["random_weights"], options["threads"]) == (16, 2, True, 1)
    assert options["adapter"] == Path("some/adapter")
