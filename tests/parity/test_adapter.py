"""Logits with an adapter, computed at run time on each engine, equal those that peft computed (tests/golden/peft)."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy
from adapter_cases import CASES, EXPECTED, GOLDEN, write_base

from gemcut.checkpoint import open_checkpoint
from gemcut.checkpoint.adapter import read_adapter, write_adapter
from gemcut.checkpoint.load import load_model
from gemcut.interfaces import SamplingOptions

# float32 in another order than peft's; the native engine adds products block by block in one float.
TOLERANCE = 1e-4


def expected_of(name):
    """token_ids, logits and plain_logits of a case."""
    return safetensors.numpy.load_file(GOLDEN / name / EXPECTED)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request, tmp_path_factory, engine):
    """(name, language model with the adapter); on PyTorch eager."""
    base = write_base(request.param.config, tmp_path_factory.mktemp("base"))
    with open_checkpoint(base) as checkpoint:
        adapter = read_adapter(GOLDEN / request.param.name, checkpoint)
        model = load_model(checkpoint, engine, "float32", adapter=adapter)
    if engine == "torch":
        from gemcut.model.language_model import KerasLanguageModel
        from gemcut.model.runner_torch import Runner

        model = KerasLanguageModel(model.keras_model, Runner(model.keras_model, compiled=False))
    yield request.param.name, model
    model.close()


@pytest.mark.backend
def test_logits_are_those_of_peft(case):
    name, model = case
    expected = expected_of(name)
    assert np.abs(expected["logits"] - expected["plain_logits"]).max() > 0.5  # the adapter matters
    found = model.logits(expected["token_ids"].tolist())
    np.testing.assert_allclose(found, expected["logits"], rtol=0, atol=TOLERANCE)


@pytest.mark.backend
@pytest.mark.parametrize("case", CASES[:1], ids=lambda case: case.name, indirect=True)  # compiling is slow
def test_decoding_after_a_prefill_gives_the_logits_of_peft(case):
    name, model = case
    token_ids, logits = (expected_of(name)[key] for key in ("token_ids", "logits"))
    first = 13
    cache = model.new_cache(1, len(token_ids) + 1)
    model.prefill(cache, [token_ids[:first].tolist()])
    for position in range(first, len(token_ids)):
        forced = [SamplingOptions(logit_bias=((int(token_ids[position]), 1e6),))]
        uniforms = np.zeros((1, 1), np.float32)
        decoded = model.decode(cache, 1, forced, uniforms, num_top_logprobs=model.config.vocab_size)
        found = decoded.top_logprobs[0, 0][np.argsort(decoded.top_token_ids[0, 0])]
        wanted = logits[position - 1] - np.logaddexp.reduce(logits[position - 1])
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("settings", CASES, ids=lambda case: case.name)
def test_written_adapter_is_the_one_that_was_read(settings, tmp_path):
    (tmp_path / "again").mkdir()
    with open_checkpoint(write_base(settings.config, tmp_path / "base")) as checkpoint:
        read = read_adapter(GOLDEN / settings.name, checkpoint)
        write_adapter(tmp_path / "again", read)
        again = read_adapter(tmp_path / "again", checkpoint)
    assert (again.base, again.prefix, list(again.updates)) == (read.base, read.prefix, list(read.updates))
    for name, update in read.updates.items():
        assert np.array_equal(again.updates[name].a, update.a)
        assert np.array_equal(again.updates[name].b, update.b)
        assert again.updates[name].scale == pytest.approx(update.scale, rel=1e-15)
