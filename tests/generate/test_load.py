"""A small real model through `gemcut.load`: the contract of the design, on the engine of the process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import gemcut
from gemcut.checkpoint.adapter import Adapter, write_adapter
from gemcut.errors import BackendError, ContextLengthError, NotFoundError, TokenizerError, UsageError
from gemcut.interfaces import LowRankUpdate
from gemcut.text import chat_template_for

PROMPTS = ["a", "the great river sees every small house and", "the planet", "a model of the old garden is"]
SAMPLING = {"temperature": 1.3, "top_p": 0.97}


@pytest.fixture(scope="module")
def folder(write_tiny_model, tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def lm(folder, engine):
    """The tiny model; on PyTorch eager, as its compiled form has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        if engine == "torch":
            patch.setattr("gemcut.model.runner_torch.can_compile", lambda: False)
        lm = gemcut.load(folder, engine=engine, dtype="float32")
    yield lm
    lm.close()


backend = pytest.mark.backend


@backend
def test_facts(lm, folder, engine):
    assert (lm.engine, lm.dtype, lm.device, lm.name) == (engine, "float32", "cpu", str(folder))
    assert (lm.context, lm.config.vocab_size, lm.tokenizer.vocab_size) == (120, 704, 700)
    assert lm.load_seconds > 0
    if engine == "native":
        with pytest.raises(UsageError, match='engine "native" has no Keras model; load with engine="jax"'):
            _ = lm.keras_model
    else:
        assert lm.keras_model.count_params() > 0
    assert not lm.is_instruction_tuned


@backend
def test_greedy_is_the_argmax_of_logits(lm):
    done = lm.generate(PROMPTS[1], max_tokens=16)
    whole = [*lm.tokenizer.encode(PROMPTS[1]), *done.token_ids]
    logits = lm.logits(whole)
    assert logits.shape == (len(whole), 704)
    assert done.token_ids == logits[-17:-1].argmax(-1).tolist()
    assert len(set(done.token_ids)) > 2


@backend
def test_batch_of_unequal_lengths_gives_the_answers_of_one_by_one(lm):
    answers = lm.generate(PROMPTS, max_tokens=16)
    assert answers == [lm.generate(prompt, max_tokens=16) for prompt in PROMPTS]
    assert len({answer.text for answer in answers}) == len(PROMPTS)


@backend
def test_drawn_batch_gives_the_answers_of_one_by_one(lm):
    options = {"max_tokens": 16, "seed": 4, **SAMPLING}
    answers = lm.generate(PROMPTS, **options)
    assert answers == [lm.generate(prompt, **options) for prompt in PROMPTS]


@backend
def test_samples_differ_and_the_seed_repeats_them(lm):
    options = {"n": 4, "max_tokens": 16, **SAMPLING}
    first = lm.generate(PROMPTS[0], seed=11, **options)
    assert len({sample.text for sample in first}) == 4
    assert lm.generate(PROMPTS[0], seed=11, **options) == first
    assert lm.generate(PROMPTS[0], seed=12, **options) != first


@backend
@pytest.mark.parametrize("seed", range(3))
def test_stream_adds_up_to_generate(lm, seed):
    options = {"max_tokens": 40, "seed": seed, **SAMPLING}
    pieces = list(lm.stream(PROMPTS[0], **options))
    text = "".join(piece.text for piece in pieces)
    assert all(piece.text.encode("utf-8", errors="strict") is not None for piece in pieces)
    assert pieces[-1].completion == lm.generate(PROMPTS[0], **options)
    assert text == pieces[-1].completion.text
    assert len(pieces) > 3


@backend
def test_stop_string_of_a_drawn_text(lm):
    options = {"max_tokens": 40, "seed": 1, **SAMPLING}
    text = lm.generate(PROMPTS[0], **options).text
    stop = text[len(text) // 2 :][:3]
    done = lm.generate(PROMPTS[0], stop=stop, **options)
    assert (done.text, done.finish_reason) == (text[: text.find(stop)], "stop")
    assert "".join(piece.text for piece in lm.stream(PROMPTS[0], stop=stop, **options)) == done.text


@backend
def test_stop_id_ends_the_text(lm):
    done = lm.generate(PROMPTS[0], max_tokens=16, logit_bias={15: 1e6})
    assert (done.text, done.token_ids, done.finish_reason) == ("", [], "stop")
    assert done.usage == {"prompt_tokens": 2, "completion_tokens": 1}


@backend
def test_logprobs_are_the_scores(lm):
    done = lm.generate(PROMPTS[0], max_tokens=16, logprobs=3)
    score = lm.score(lm.tokenizer.encode(PROMPTS[0]), done.token_ids)
    found = [entry["logprob"] for entry in done.logprobs]
    np.testing.assert_allclose(found, score.token_logprobs, rtol=0, atol=3e-5)
    assert score.logprob == pytest.approx(sum(found), abs=1e-3)
    for entry, token_id in zip(done.logprobs, done.token_ids, strict=True):
        assert entry["top"][0] == pytest.approx(
            {"token_id": token_id, "token": entry["token"], "logprob": entry["logprob"]}, abs=1e-6
        )
        assert [top["logprob"] for top in entry["top"]] == sorted(
            (top["logprob"] for top in entry["top"]), reverse=True
        )


@backend
def test_score_of_a_text_is_the_sum_of_its_parts(lm):
    prompt, continuation = "the great river", " sees a small house"
    score = lm.score(prompt, continuation)
    assert len(score.token_logprobs) == len(score.token_ids) > 2
    whole = [*lm.tokenizer.encode(prompt), *score.token_ids]
    logits = lm.logits(whole).astype(np.float64)
    exact = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    places = np.arange(len(whole) - len(score.token_ids) - 1, len(whole) - 1)
    np.testing.assert_allclose(score.token_logprobs, exact[places, score.token_ids], rtol=0, atol=3e-5)
    assert score.logprob == pytest.approx(sum(score.token_logprobs))


@backend
def test_chat_and_its_stream(lm):
    messages = [{"role": "user", "content": "a house"}]
    done = lm.chat(messages, max_tokens=16)
    assert done == lm.generate(lm.chat_prompt(messages), max_tokens=16)
    longer = [*messages, {"role": "assistant", "content": done.text}, {"role": "user", "content": "and the river"}]
    *_, last = lm.chat_stream(longer, max_tokens=16)
    assert last.completion == lm.chat(longer, max_tokens=16)
    assert last.completion.usage["prompt_tokens"] > done.usage["prompt_tokens"]


@backend
def test_text_runs_to_the_end_of_the_context_and_no_further(lm):
    prompt = [2, *range(400, 500)]
    done = lm.generate(prompt, max_tokens=50, logit_bias={1: -1e9, 15: -1e9})
    assert (len(done.token_ids), done.finish_reason) == (120 - 101, "length")
    with pytest.raises(ContextLengthError, match="prompt: it has 120 tokens, but the context is 120 tokens"):
        lm.generate([2] * 120)


@backend
def test_model_that_was_closed(folder, engine, monkeypatch):
    if engine == "torch":
        monkeypatch.setattr("gemcut.model.runner_torch.can_compile", lambda: False)
    lm = gemcut.load(folder, engine=engine, dtype="float32", context=50)
    assert lm.context == 50
    lm.close()
    for call in (
        lambda: lm.generate("a"),
        lambda: list(lm.stream("a")),
        lambda: lm.logits([2]),
        lambda: lm.engine_model.num_compiled() if engine == "native" else lm.keras_model,
    ):
        with pytest.raises(BackendError, match="model: it was closed, so its weights are gone. Load it again"):
            call()


@backend
def test_context_beyond_the_model(folder, engine):
    with pytest.raises(ContextLengthError, match="context is 121, expected 1 to 120, the model's own context"):
        gemcut.load(folder, engine=engine, dtype="float32", context=121)


@backend
def test_adapter_is_computed_beside_the_weights(lm, folder, engine, tmp_path, monkeypatch):
    name, shape = "model.layers.1.mlp.down_proj.weight", (32, 48)
    generator = np.random.default_rng(9)
    a, b = (generator.standard_normal(size, dtype=np.float32) for size in ((2, shape[1]), (shape[0], 2)))
    write_adapter(tmp_path, Adapter({name: LowRankUpdate(a, b, 0.5)}))
    if engine == "torch":
        monkeypatch.setattr("gemcut.model.runner_torch.can_compile", lambda: False)
    adapted = gemcut.load(folder, engine=engine, dtype="float32", adapter=tmp_path)
    token_ids = lm.tokenizer.encode(PROMPTS[1])
    assert np.abs(adapted.logits(token_ids) - lm.logits(token_ids)).max() > 0.1
    adapted.close()
    with pytest.raises(NotFoundError, match="has no adapter_config.json"):
        gemcut.load(folder, engine=engine, adapter=folder)


@backend
def test_own_chat_template_means_instruction_tuned(write_tiny_model, tmp_path, engine):
    folder = write_tiny_model(tmp_path / "tuned")
    (folder / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0].content }}")
    (folder / "generation_config.json").write_text(
        json.dumps({"do_sample": True, "top_k": 64, "eos_token_id": [1, 99]})
    )
    lm = gemcut.load(str(folder), engine=engine, dtype="float32")
    assert lm.is_instruction_tuned
    assert lm.defaults == {"temperature": 1.0, "top_k": 64}
    assert lm.stop_token_ids == (1, 15, 99)
    assert lm.chat_prompt([{"role": "user", "content": "a"}]) == lm.tokenizer.encode("a")


def test_tokenizer_larger_than_the_embedding(write_tiny_model, tmp_path):
    folder = write_tiny_model(tmp_path / "small", vocab_size=600)
    message = (
        r"uses token ids up to 699, but the embedding has 600 rows. Use the tokenizer that came with these weights"
    )
    with pytest.raises(TokenizerError, match=message):
        gemcut.load(folder)


CHILD = """
import json, logging, sys
logging.basicConfig(level=logging.WARNING)
import gemcut
lm = gemcut.load(sys.argv[1], engine=sys.argv[2], dtype=sys.argv[3], threads=1)
done = lm.generate("the great river sees", max_tokens=12)
print(json.dumps([lm.num_threads, lm.dtype, done.token_ids]))
"""


def in_child(folder, engine, dtype, **environment):
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), engine, dtype],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )


@backend
def test_one_thread_and_no_compiler_in_a_process_of_its_own(lm, folder, engine, tmp_path):
    """One thread gives the same text; PyTorch without a C++ compiler says that it runs eager, and does."""
    done = in_child(folder, engine, "float32", PATH=str(tmp_path), CXX="no-such-compiler")
    num_threads, dtype, token_ids = json.loads(done.stdout.splitlines()[-1])
    assert (num_threads, dtype) == (1, "float32")
    assert token_ids == lm.generate("the great river sees", max_tokens=12).token_ids
    message = "torch: no C++ compiler found, so decoding runs uncompiled and slower; install g++ to change that."
    assert (message in done.stderr) == (engine == "torch")


@backend
def test_template_of_a_family_is_built_in(lm):
    template = chat_template_for(lm.tokenizer, lm.config.model_type, where="test")
    assert template.source == lm.template.source
    assert lm.template.is_builtin
