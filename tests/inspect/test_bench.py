"""`bench` measures what it says and gives every key of the contract."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math

import pytest

from gemcut.errors import ContextLengthError, NotFoundError, UsageError
from gemcut.inspect.bench import bench

CONTRACT = {
    "prefill_tokens_per_second",
    "decode_tokens_per_second",
    "time_to_first_token_seconds",
    "load_seconds",
    "peak_memory_bytes",
    "prompt_tokens",
    "decode_tokens",
    "depth",
    "batch",
    "threads",
    "engine",
    "dtype",
}


@pytest.fixture
def eager_on_torch(engine, monkeypatch):
    """The compiled form has tests of its own and takes long to make."""
    if engine == "torch":
        monkeypatch.setattr("gemcut.model.runner_torch.can_compile", lambda: False)


@pytest.mark.backend
def test_figures_of_a_model_with_depth_and_batch(engine, eager_on_torch, write_tiny_model, tmp_path):
    folder = write_tiny_model(tmp_path / "tiny")
    figures = bench(
        str(folder), prompt_tokens=9, decode_tokens=5, depth=4, batch=2, engine=engine, dtype="float32", repeats=2
    )
    json.dumps(figures)
    assert set(figures) >= CONTRACT
    asked = {"prompt_tokens": 9, "decode_tokens": 5, "depth": 4, "batch": 2, "repeats": 2, "random_weights": False}
    assert {key: figures[key] for key in asked} == asked
    assert (figures["engine"], figures["dtype"], figures["device"], figures["model"]) == (
        engine, "float32", "cpu", str(folder),
    )  # fmt: skip
    speeds = ("prefill_tokens_per_second", "decode_tokens_per_second", "time_to_first_token_seconds", "load_seconds")
    assert all(math.isfinite(figures[key]) and figures[key] > 0 for key in (*speeds, "first_run_seconds"))
    assert figures["peak_memory_bytes"] > 2**20
    computes_with = set() if engine == "native" else {"keras", engine}
    assert figures["versions"].keys() == {"python", "gemcut"} | computes_with
    assert figures["weights_bytes"] > 1000


@pytest.mark.backend
@pytest.mark.keras
def test_random_weights_stand_in_for_a_published_model(engine, eager_on_torch, monkeypatch):
    """The shape is the published one's; here a small configuration takes its place."""
    bench_module = importlib.import_module("gemcut.inspect.bench")
    published = bench_module.published("gemma-2b")
    config = dataclasses.replace(
        published.config,
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        layer_types=published.config.layer_types[:1],
        head_dim=8,
    )
    monkeypatch.setattr(bench_module, "published", lambda name: dataclasses.replace(published, config=config))
    options = {"prompt_tokens": 4, "decode_tokens": 2, "random_weights": True, "repeats": 1}
    figures = bench("gemma-2b", engine=engine, dtype="float32", **options)
    assert figures["random_weights"]
    assert figures["weights_bytes"] == 4 * bench_module.num_parameters(config)
    assert figures["decode_tokens_per_second"] > 0


@pytest.mark.backend
def test_context_must_hold_what_is_measured(engine, eager_on_torch, write_tiny_model, tmp_path):
    folder = write_tiny_model(tmp_path / "tiny")
    with pytest.raises(
        ContextLengthError, match="depth, prompt and answer are 151 tokens, but the model's context is 120"
    ):
        bench(str(folder), prompt_tokens=100, decode_tokens=40, depth=10, engine=engine, dtype="float32")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt_tokens": 0}, "prompt_tokens is 0, expected at least 1"),
        ({"decode_tokens": 0}, "decode_tokens is 0, expected at least 1"),
        ({"batch": 0}, "batch is 0, expected at least 1"),
        ({"repeats": 0}, "repeats is 0, expected at least 1"),
        ({"depth": -1}, "depth is -1, expected at least 0"),
        ({"random_weights": True, "adapter": "some/adapter"}, "adapter: random weights have none"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_numbers_out_of_range_are_named(arguments, message):
    with pytest.raises(UsageError, match=message):
        bench("starter", **arguments)


def test_random_weights_need_a_published_name():
    with pytest.raises(NotFoundError, match="gema-2b"):
        bench("gema-2b", random_weights=True)
