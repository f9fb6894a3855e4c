"""The native engine's own promises: refusals, interruption, threads, memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from gemcut.engine import NativeCheckpoint, NativeLanguageModel
from gemcut.errors import ContextLengthError, UsageError
from gemcut.interfaces import SamplingOptions

pytestmark = pytest.mark.native
GREEDY = SamplingOptions()


def zeros(rows, steps=1):
    return np.zeros((rows, steps), np.float32)


def started(model, *prompts, max_tokens=100):
    cache = model.new_cache(len(prompts), max_tokens)
    model.prefill(cache, prompts)
    return cache


def test_facts(model):
    assert (model.engine, model.dtype, model.device, model.num_threads) == ("native", "float32", "cpu", 2)
    assert model.isa
    assert model.weights_bytes > 4 * 704 * 32 * 2
    cache = model.new_cache(2, 50)
    assert (cache.batch_size, cache.capacity, cache.lengths.tolist()) == (2, 50, [0, 0])
    assert cache.num_bytes > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"dtype": "bfloat16"},
            "dtype is 'bfloat16', but engine \"native\" computes with the weights as they are stored",
        ),
        ({"dtype": "float16"}, "expected auto, or float32 for keys and values in float32"),
        ({"threads": 0}, "threads is 0, expected at least 1"),
    ],
    ids=["bfloat16", "float16", "no-threads"],
)
def test_options_the_engine_does_not_have(tiny_folder, options, message):
    with NativeCheckpoint(tiny_folder) as checkpoint, pytest.raises(UsageError, match=message):
        NativeLanguageModel(checkpoint, **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda model: model.decode(started(model, [2]), 1, [GREEDY] * 2, zeros(1)),
            UsageError,
            r"options: its shape is \(2,\), expected \(1,\)",
        ),
        (
            lambda model: model.decode(started(model, [2]), 2, [GREEDY], zeros(1)),
            UsageError,
            r"uniforms: its shape is \(1, 1\), expected \(1, 2\)",
        ),
        (
            lambda model: model.decode(started(model, [2]), 1, [GREEDY], zeros(1), mask=np.ones((1, 9), bool)),
            UsageError,
            r"mask: its shape is \(1, 9\), expected \(1, 704\)",
        ),
        (
            lambda model: model.logits([2] * 121),
            ContextLengthError,
            "121 tokens were asked for, but the model's context is 120 tokens",
        ),
    ],
    ids=["options", "uniforms", "mask", "context"],
)
def test_wrong_use_is_named(model, call, error, message):
    with pytest.raises(error, match=message):
        call(model)


def test_float32_cache_is_larger_and_nearer(tiny_folder, model):
    with NativeCheckpoint(tiny_folder) as checkpoint:
        exact = NativeLanguageModel(checkpoint, dtype="float32")
    token_ids = list(range(400, 440))
    assert exact.new_cache(1, 64).num_bytes > model.new_cache(1, 64).num_bytes
    difference = np.abs(exact.logits(token_ids) - model.logits(token_ids)).max()
    assert 0 < difference < 0.1


def test_more_threads_than_cores(tiny_folder, model):
    with NativeCheckpoint(tiny_folder) as checkpoint:
        crowded = NativeLanguageModel(checkpoint, threads=64)
    assert crowded.num_threads == 64
    token_ids = list(range(400, 420))
    assert (crowded.logits(token_ids) == model.logits(token_ids)).all()


def test_python_threads_may_share_a_model(model):
    """Each thread decodes a batch of its own; passes take turns."""
    prompts = [[2, 400 + index, 500 + index] for index in range(4)]
    alone = [model.decode(started(model, prompt), 20, [GREEDY], zeros(1, 20)).token_ids.tolist() for prompt in prompts]
    found: dict[int, list] = {}

    def work(index):
        found[index] = model.decode(started(model, prompts[index]), 20, [GREEDY], zeros(1, 20)).token_ids.tolist()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(4)] == alone


def decode_singly(model, cache, steps):
    for _ in range(steps):
        model.decode(cache, 1, [GREEDY], zeros(1))


def test_ctrl_c_ends_decoding_between_tokens_and_the_batch_goes_on(model, interrupted_beyond):
    prompt, steps = [2, 420, 430], 90
    whole = model.decode(started(model, prompt), steps, [GREEDY], zeros(1, steps)).token_ids[0].tolist()
    done = whole
    while len(done) == steps:  # until the alarm rang in time
        cache = started(model, prompt)
        with contextlib.suppress(KeyboardInterrupt), interrupted_beyond(cache, 6):
            decode_singly(model, cache, steps)
        done = cache.token_ids[0][len(prompt) :]
    assert done
    rest = model.decode(cache, steps - len(done), [GREEDY], zeros(1, steps - len(done))).token_ids[0].tolist()
    assert done + rest == whole


INTERRUPTED_PREFILL = """
import os, signal, sys, threading, time
from gemcut.engine import NativeCheckpoint, NativeLanguageModel

with NativeCheckpoint(sys.argv[1]) as checkpoint:
    model = NativeLanguageModel(checkpoint, threads=1, prefix_cache_bytes=0)
token_ids = [2, *range(3, 700)] * 30
cache = model.new_cache(1, len(token_ids) + 10)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
begin = time.perf_counter()
try:
    for _ in range(1000):
        model.prefill(model.new_cache(1, len(token_ids)), [token_ids])
except KeyboardInterrupt:
    print("interrupted", time.perf_counter() - begin)
"""


def test_ctrl_c_ends_a_long_prefill(write_tiny_model, tmp_path):
    folder = write_tiny_model(tmp_path / "long", max_position_embeddings=40000)
    child = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_PREFILL, str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    word, seconds = child.stdout.split()
    assert word == "interrupted"
    assert float(seconds) < 20


def test_closing_frees_the_batches_too(model):
    cache = started(model, [2, 5])
    assert cache.num_bytes > 0
    model.close()
    assert cache.num_bytes == 0


def test_unknown_instruction_set_is_named(tiny_folder):
    code = "import sys, gemcut; gemcut.load(sys.argv[1], engine='native')"
    child = subprocess.run(
        [sys.executable, "-c", code, str(tiny_folder)],
        env=os.environ | {"GEMCUT_ISA": "mmx"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert child.returncode == 1
    assert "UsageError" in child.stderr
    assert "GEMCUT_ISA" in child.stderr
