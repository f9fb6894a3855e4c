"""How fast a model is on this machine, and what it takes."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import platform
import resource
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from gemcut.checkpoint.load import random_model
from gemcut.config import published
from gemcut.config.parameters import num_parameters
from gemcut.errors import ContextLengthError, UsageError
from gemcut.generate import load
from gemcut.interfaces import LanguageModel, SamplingOptions

REPEATS = 3
BYTES_PER_NUMBER = {"float32": 4, "bfloat16": 2, "float16": 2}


def bench(
    reference: str,
    *,
    prompt_tokens: int = 512,
    decode_tokens: int = 64,
    depth: int = 0,
    batch: int = 1,
    random_weights: bool = False,
    engine: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    adapter: str | os.PathLike[str] | None = None,
    repeats: int = REPEATS,
) -> dict[str, Any]:
    """Speed and memory of a model, greedy, medians over `repeats` runs after one that compiles.

    Each run fills the cache with `depth` tokens, then measures the prefill of `prompt_tokens` more, the first token
    after them, and the decoding of `decode_tokens` further ones.

    Args:
        reference: A model reference; with `random_weights` a published name.
        prompt_tokens, decode_tokens: What is measured; at least 1.
        depth: Tokens in the cache before the measured prompt; at least 0.
        batch: Sequences side by side; at least 1.
        random_weights: Random weights of the published model's shape, so nothing need be downloaded.
        engine, dtype, threads, adapter: As in `gemcut.load`.
        repeats: Measured runs; at least 1.

    Returns:
        prefill_tokens_per_second and decode_tokens_per_second (summed over the batch), time_to_first_token_seconds,
        load_seconds, first_run_seconds (it compiles), peak_memory_bytes (resident, of this process),
        weights_bytes, what was measured, and the versions that did it.

    Raises:
        UsageError: a number is out of range, or random weights are to have an adapter.
        ContextLengthError: the model's context is shorter than what is asked for.
    """
    numbers = {"prompt_tokens": prompt_tokens, "decode_tokens": decode_tokens, "batch": batch, "repeats": repeats}
    for name, value in (numbers | {"depth": depth + 1}).items():
        if value < 1:
            raise UsageError(f"{name} is {value - (name == 'depth')}, expected at least {int(name != 'depth')}.")
    if random_weights and adapter is not None:
        raise UsageError("adapter: random weights have none, expected a model's own. Leave out one of the two.")
    begin = time.perf_counter()
    with _loaded(reference, random_weights, engine, dtype, threads, adapter) as model:
        load_seconds = time.perf_counter() - begin
        total, limit = depth + prompt_tokens + decode_tokens + 1, model.config.max_position_embeddings
        if total > limit:
            raise ContextLengthError(
                f"depth, prompt and answer are {total} tokens, but the model's context is {limit} tokens."
            )
        runs = [_run(model, depth, prompt_tokens, decode_tokens, batch) for _ in range(repeats + 1)]
        first, *measured = runs
        prefill, first_token, decode = (statistics.median(values) for values in zip(*measured, strict=True))
        return {
            "prefill_tokens_per_second": batch * prompt_tokens / prefill,
            "decode_tokens_per_second": batch * decode_tokens / decode,
            "time_to_first_token_seconds": first_token,
            "load_seconds": load_seconds,
            "first_run_seconds": math.fsum((first[1], first[2])),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "weights_bytes": weights_bytes(model),
            "model": reference,
            "random_weights": random_weights,
            "adapter": None if adapter is None else os.fspath(adapter),
            "prompt_tokens": prompt_tokens,
            "decode_tokens": decode_tokens,
            "depth": depth,
            "batch": batch,
            "repeats": repeats,
            "threads": model.num_threads,
            "engine": model.engine,
            "device": model.device,
            "dtype": model.dtype,
            "versions": _versions(model.engine),
        }


def weights_bytes(model: LanguageModel) -> int:
    """Memory of a model's weights, as the engine counts it or as the compute type makes it."""
    counted: int | None = getattr(model, "weights_bytes", None)
    return num_parameters(model.config) * BYTES_PER_NUMBER[model.dtype] if counted is None else counted


@contextlib.contextmanager
def _loaded(
    reference: str,
    random_weights: bool,
    engine: str,
    dtype: str,
    threads: int | None,
    adapter: str | os.PathLike[str] | None,
) -> Iterator[LanguageModel]:
    if random_weights:
        model: LanguageModel = random_model(published(reference).config, engine, dtype, threads)
    else:
        model = load(reference, engine=engine, dtype=dtype, threads=threads, adapter=adapter).engine_model
    # Every run computes all of its tokens, one after the other: the native engine would remember the prompt and guess.
    for name, value in (("prefix_cache_bytes", 0), ("prompt_lookup", False)):
        if hasattr(model, name):
            setattr(model, name, value)
    try:
        yield model
    finally:
        model.close()


def _run(
    model: LanguageModel, depth: int, prompt_tokens: int, decode_tokens: int, batch: int
) -> tuple[float, float, float]:
    """Seconds of the prefill, until the first token, and of the tokens after it."""
    generator = np.random.default_rng(0)
    token_ids = generator.integers(3, model.config.vocab_size, (batch, depth + prompt_tokens)).tolist()
    options = [SamplingOptions()] * batch
    cache = model.new_cache(batch, depth + prompt_tokens + decode_tokens + 1)
    if depth:
        model.prefill(cache, [row[:depth] for row in token_ids])
    begin = time.perf_counter()
    model.prefill(cache, [row[depth:] for row in token_ids])
    prefilled = time.perf_counter()
    model.decode(cache, 1, options, np.zeros((batch, 1), np.float32))
    first = time.perf_counter()
    model.decode(cache, decode_tokens, options, np.zeros((batch, decode_tokens), np.float32))
    end = time.perf_counter()
    return prefilled - begin, first - begin, end - first


def _versions(engine: str) -> dict[str, str]:
    """Versions of what computed the figures."""
    found = {"python": platform.python_version()}
    for name in ("gemcut",) if engine == "native" else ("gemcut", "keras", engine):
        for package in (name, f"{name}-cpu"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(package)
    return found
