"""Float32 logits equal transformers' at every position: full forward, prefill then decode, unequal lengths."""

from __future__ import annotations

import os

import numpy as np
import pytest
from families import FAMILIES, NUM_TOKENS, VOCAB_SIZE, reference_logits, token_rows, write_reference

from gemcut.checkpoint import open_checkpoint
from gemcut.checkpoint.load import load_model
from gemcut.interfaces import SamplingOptions

pytestmark = pytest.mark.backend
# The native engine adds products in another order than transformers, block by block in one float.
TOLERANCES = {"native": 1e-4}
TOLERANCE = TOLERANCES.get(os.environ.get("GEMCUT_TEST_ENGINE", ""), 3e-5)
COMPILED_ON_TORCH = {"gemma", "gemma3-linear", "mistral"}  # no, one and two kinds of layer; every switch is in the rest


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def models(request, tmp_path_factory, engine):
    """(transformers' model, ours) of one family; on PyTorch eager except where named."""
    family = request.param
    folder = tmp_path_factory.mktemp(family.name)
    reference = write_reference(family, folder)
    with open_checkpoint(folder) as checkpoint:
        model = load_model(checkpoint, engine, "float32")
    if engine == "torch":
        from gemcut.model.language_model import KerasLanguageModel
        from gemcut.model.runner_torch import Runner

        decoder = model.keras_model
        model = KerasLanguageModel(decoder, Runner(decoder, compiled=family.name in COMPILED_ON_TORCH))
    yield reference, model
    model.close()


def forced_logits(model, prompts, continuations):
    """Logits (steps, B, V) while decoding `continuations` token by token: bias makes each choice certain."""
    cache = model.new_cache(len(prompts), max(map(len, prompts)) + len(continuations[0]))
    model.prefill(cache, prompts)
    collected = []
    for step in range(len(continuations[0])):
        options = [SamplingOptions(logit_bias=((row[step], 1e6),)) for row in continuations]
        uniforms = np.zeros((len(prompts), 1), np.float32)
        decoded = model.decode(cache, 1, options, uniforms, num_top_logprobs=VOCAB_SIZE)
        assert decoded.token_ids[:, 0].tolist() == [row[step] for row in continuations]
        order = np.argsort(decoded.top_token_ids[:, 0], axis=-1)
        collected.append(np.take_along_axis(decoded.top_logprobs[:, 0], order, axis=-1))
    return np.stack(collected)


def log_softmax(logits):
    peak = logits.max(-1, keepdims=True)
    return logits - peak - np.log(np.exp(logits - peak).sum(-1, keepdims=True))


def test_full_forward(models):
    reference, model = models
    [token_ids] = token_rows([NUM_TOKENS])
    expected = reference_logits(reference, token_ids)
    assert np.abs(expected).max() > 1  # the comparison means something
    np.testing.assert_allclose(model.logits(token_ids), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.keras
def test_keras_model_call(models):
    import keras

    reference, model = models
    [token_ids] = token_rows([NUM_TOKENS])
    logits = model.keras_model(keras.ops.convert_to_tensor(np.array([token_ids], np.int32)))[0]
    # Not keras.ops.convert_to_numpy: on PyTorch it makes NumPy warn.
    logits = logits.detach().numpy() if keras.backend.backend() == "torch" else np.asarray(logits)
    np.testing.assert_allclose(logits, reference_logits(reference, token_ids), rtol=0, atol=TOLERANCE)


@pytest.mark.keras
def test_prefill_in_chunks(models):
    """Chunks shorter than the prompt: later chunks see the ring as it stood before them.

    The lengths fall into two compiled shapes, one of which the other tests have, too.
    """
    reference, model = models
    [token_ids] = token_rows([NUM_TOKENS + 20])
    cache = model.new_cache(1, 128)
    parts = []
    for begin, end in ((0, 20), (20, 25), (25, 26), (26, 42), (42, len(token_ids))):
        for hidden, _, counts in model._prefill_chunks(cache, [token_ids[begin:end]]):
            rows = np.arange(counts[0], dtype=np.int32)
            parts.append(model._runner.logit_rows(hidden, np.resize(rows, 128))[: len(rows)])
    np.testing.assert_allclose(np.concatenate(parts), reference_logits(reference, token_ids), rtol=0, atol=TOLERANCE)


def test_prefill_then_decode(models):
    reference, model = models
    [token_ids] = token_rows([NUM_TOKENS])
    prompt_length = 17  # beyond the window, and of the compiled shape that the whole sequence has
    decoded = forced_logits(model, [token_ids[:prompt_length]], [token_ids[prompt_length:]])[:, 0]
    expected = log_softmax(reference_logits(reference, token_ids))[prompt_length - 1 : -1]
    np.testing.assert_allclose(decoded, expected, rtol=0, atol=TOLERANCE)


def test_batch_of_unequal_lengths(models):
    reference, model = models
    rows = token_rows([12, 3, 21])  # three rows share four slots of a compiled batch
    steps = 9
    prompts = [row[:-1] for row in rows]
    continuations = token_rows([steps + 1] * 3, seed=9)
    decoded = forced_logits(model, prompts, [row[1:] for row in continuations])
    for index, prompt in enumerate(prompts):
        sequence = prompt + continuations[index][1:]
        expected = log_softmax(reference_logits(reference, sequence))[len(prompt) - 1 : -1]
        np.testing.assert_allclose(decoded[:, index], expected, rtol=0, atol=TOLERANCE)


def test_score_equals_log_softmax(models):
    reference, model = models
    rows = token_rows([NUM_TOKENS, 4, 17])
    for scores, row in zip(model.score(rows), rows, strict=True):
        expected = log_softmax(reference_logits(reference, row))[np.arange(len(row) - 1), row[1:]]
        np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)
