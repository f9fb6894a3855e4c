"""The contract of `gemcut.load(...)`'s methods, on an engine that follows a script."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from gemcut.errors import BackendError, ContextLengthError, TemplateError, UsageError
from gemcut.generate.text_model import TextModel, sampling_defaults
from gemcut.interfaces import Completion, SamplingOptions

EOS = 1
ANSWER = "The great river sees 😀 été\n\nand 世界 ok."


def prefilled(lm):
    return [lengths for kind, lengths, *_ in lm.engine_model.calls if kind == "prefill"]


@pytest.fixture
def seen_prompts(scripted):
    """A model that records the prompts its engine was given, and answers "ok"."""

    def make(**options):
        prompts = []

        def script(prompt, index):
            if index == 0:
                prompts.append(prompt)
            return EOS

        return scripted(script, **options), prompts

    return make


class TestGenerate:
    def test_one_prompt_gives_one_completion(self, scripted, saying, tokenizer):
        done = scripted(saying(ANSWER)).generate("a house", max_tokens=50)
        assert isinstance(done, Completion)
        assert (done.text, done.finish_reason) == (ANSWER, "stop")
        assert done.token_ids == tokenizer.encode(ANSWER, add_bos=False)
        prompt_tokens = len(tokenizer.encode("a house"))
        assert done.usage == {"prompt_tokens": prompt_tokens, "completion_tokens": len(done.token_ids) + 1}
        assert done.logprobs is None

    def test_many_prompts_give_a_list_in_their_order(self, scripted, tokenizer):
        """Each row answers with the length of its prompt, whatever batch it is in."""
        lm = scripted(lambda prompt, index: 400 + len(prompt) if index == 0 else EOS)
        prompts = [[2] * length for length in (9, 1, 30, 4, 4, 17, 2, 8, 40, 3, 5)]
        answers = lm.generate(prompts, max_tokens=3)
        assert [answer.token_ids for answer in answers] == [[400 + len(prompt)] for prompt in prompts]
        assert [answer.usage["prompt_tokens"] for answer in answers] == [len(prompt) for prompt in prompts]
        assert answers == [lm.generate(prompt, max_tokens=3) for prompt in prompts]

    def test_texts_and_ids_may_be_mixed(self, seen_prompts, tokenizer):
        lm, prompts = seen_prompts()
        lm.generate(["a house", [7, 8, 9, 10, 11, 12, 13]])
        assert prompts == [tokenizer.encode("a house"), [7, 8, 9, 10, 11, 12, 13]]

    def test_several_samples_give_a_list_for_each_prompt(self, scripted, saying):
        lm = scripted(saying("ok"))
        single = lm.generate("a", n=3)
        assert [answer.text for answer in single] == ["ok"] * 3
        many = lm.generate(["a", "b"], n=2)
        assert [[answer.text for answer in group] for group in many] == [["ok"] * 2] * 2

    def test_samples_draw_from_streams_of_their_own_that_the_seed_fixes(self, scripted, saying):
        def draws(**options):
            lm = scripted(saying([400] * 9))
            lm.generate("a", max_tokens=9, temperature=1.0, **options)
            return np.concatenate(lm.engine_model.uniforms, axis=1).tolist()

        first, second = draws(n=2, seed=5)
        assert first != second
        assert draws(n=2, seed=5) == [first, second]
        assert draws(seed=5) == [first]
        assert draws(seed=6) != [first]
        assert draws() != draws()

    def test_text_gets_bos_exactly_once(self, seen_prompts):
        lm, prompts = seen_prompts()
        lm.generate(["a house", " a", "<bos>a"])
        assert [prompt[0] for prompt in prompts] == [2] * 3
        assert [prompt.count(2) for prompt in prompts] == [1] * 3

    @pytest.mark.parametrize("token_ids", [[5], [2, 2, 5], [400, 1, 15]], ids=str)
    @pytest.mark.parametrize("kind", [list, tuple, np.array], ids=lambda kind: kind.__name__)
    def test_token_ids_are_used_as_given(self, seen_prompts, token_ids, kind):
        lm, prompts = seen_prompts()
        lm.generate(kind(token_ids))
        assert prompts == [token_ids]

    def test_max_tokens_ends_with_length(self, scripted, saying):
        done = scripted(saying([400] * 30)).generate("a", max_tokens=7)
        assert (len(done.token_ids), done.finish_reason, done.usage["completion_tokens"]) == (7, "length", 7)

    def test_the_end_of_the_context_ends_with_length(self, scripted, saying):
        done = scripted(saying([400] * 99), context=20).generate([2] * 15, max_tokens=50)
        assert (len(done.token_ids), done.finish_reason) == (5, "length")

    @pytest.mark.parametrize(
        ("stop", "text"),
        [
            pytest.param(" 世", "The great river sees 😀 été\n\nand", id="one"),
            pytest.param(["ok.", "\n\n"], "The great river sees 😀 été", id="first-of-several"),
            pytest.param("river", "The great ", id="inside-a-token"),
            pytest.param(["d 世界 o"], "The great river sees 😀 été\n\nan", id="over-token-borders"),
            pytest.param("T", "", id="at-once"),
            pytest.param("nowhere", ANSWER, id="never"),
        ],
    )
    def test_stop_strings_are_cut_off(self, scripted, saying, stop, text):
        lm = scripted(saying(ANSWER))
        done = lm.generate("a", stop=stop, max_tokens=50)
        assert (done.text, done.finish_reason) == (text, "stop")
        pieces = list(lm.stream("a", stop=stop, max_tokens=50))
        assert "".join(piece.text for piece in pieces) == text
        assert pieces[-1].completion == done

    def test_stop_strings_end_one_row_of_a_batch_and_not_the_others(self, scripted, tokenizer):
        answers = {10: tokenizer.encode("one two", add_bos=False), 11: [400] * 20}
        lm = scripted(lambda prompt, index: ([*answers[prompt[-1]], *[401] * 30])[index])
        first, second = lm.generate([[2, 10], [2, 11]], max_tokens=12, stop=" two")
        assert (first.text, first.finish_reason) == ("one", "stop")
        assert (second.token_ids, second.finish_reason) == ([400] * 12, "length")

    def test_logprobs(self, scripted, saying):
        lm = scripted(saying("ok"))
        [*entries] = lm.generate("a", logprobs=2).logprobs
        assert "".join(entry["token"] for entry in entries) == "ok"
        for entry in entries:
            assert entry["logprob"] == pytest.approx(-entry["token_id"] / 1000)
            assert [top["token_id"] for top in entry["top"]] == [entry["token_id"], entry["token_id"] + 1]
        assert all(entry["top"] == [] for entry in lm.generate("a", logprobs=0).logprobs)

    def test_sampling_options_reach_the_engine(self, scripted, saying, monkeypatch):
        lm = scripted(saying("ok"))
        seen = []
        original = lm.engine_model.decode

        def decode(cache, num_steps, options, uniforms, **rest):
            seen.append(options)
            return original(cache, num_steps, options, uniforms, **rest)

        monkeypatch.setattr(lm.engine_model, "decode", decode)
        given = {"temperature": 0.5, "top_k": 3, "top_p": 0.9, "min_p": 0.1, "seed": 1}
        penalties = {"repetition_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": 0.3}
        lm.generate("a", max_tokens=1, **given, **penalties, logit_bias={5: 1, 7: -2.5})
        assert seen[0] == [SamplingOptions(**given, **penalties, logit_bias=((5, 1.0), (7, -2.5)))]
        lm.generate("a", max_tokens=1, logit_bias=[(5, 1)])
        assert seen[1] == [SamplingOptions(logit_bias=((5, 1.0),))]


class TestStream:
    def test_pieces_are_whole_characters_and_add_up(self, scripted, saying):
        lm = scripted(saying(ANSWER))
        pieces = list(lm.stream("a", max_tokens=50))
        assert len(pieces) > 3
        for piece in pieces:
            piece.text.encode("utf-8", errors="strict")
            assert "\ufffd" not in piece.text
        assert "".join(piece.text for piece in pieces) == ANSWER
        assert [token_id for piece in pieces for token_id in piece.token_ids] == pieces[-1].completion.token_ids
        assert [piece.completion for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
        assert pieces[-1].completion == lm.generate("a", max_tokens=50)

    def test_bytes_that_make_no_character_become_replacement_characters(self, scripted, saying):
        token_ids = [46 + 0xE4, 46 + 0xB8, 46 + 0xFF, 46 + ord("a"), 46 + 0xC3]
        lm = scripted(saying(token_ids))
        text = "".join(piece.text for piece in lm.stream("a", max_tokens=5))
        assert text == "\ufffd\ufffd\ufffda\ufffd"
        assert text == lm.generate("a", max_tokens=5).text

    def test_a_stream_that_is_left_early_can_be_left(self, scripted, saying):
        lm = scripted(saying(ANSWER))
        stream = lm.stream("a", max_tokens=50)
        assert next(stream).text == "The"
        stream.close()

    def test_wrong_use_is_told_before_the_first_piece(self, scripted, saying):
        with pytest.raises(UsageError, match="max_tokens is 0"):
            scripted(saying("x")).stream("a", max_tokens=0)


class TestChat:
    MESSAGES = [{"role": "user", "content": "a house"}]

    def test_answer_follows_the_template(self, seen_prompts):
        lm, prompts = seen_prompts()
        lm.chat(self.MESSAGES)
        assert prompts == [lm.chat_prompt(self.MESSAGES)]
        text = lm.tokenizer.decode(prompts[0], skip_special=False)
        assert text == "<bos><start_of_turn>user\na house<end_of_turn>\n<start_of_turn>model\n"

    def test_history_and_system_text(self, seen_prompts):
        lm, prompts = seen_prompts()
        turns = [*self.MESSAGES, {"role": "assistant", "content": "ok"}, {"role": "user", "content": "and?"}]
        lm.chat(turns, system="Be small.")
        text = lm.tokenizer.decode(prompts[0], skip_special=False)
        assert text.startswith("<bos><start_of_turn>user\nBe small.\n\na house<end_of_turn>\n<start_of_turn>model\nok")
        assert text.endswith("<start_of_turn>user\nand?<end_of_turn>\n<start_of_turn>model\n")

    def test_stream_adds_up_to_chat(self, scripted, saying):
        lm = scripted(saying(ANSWER))
        pieces = list(lm.chat_stream(self.MESSAGES, max_tokens=50))
        assert pieces[-1].completion == lm.chat(self.MESSAGES, max_tokens=50)
        assert "".join(piece.text for piece in pieces) == ANSWER

    def test_model_defaults_hold_unless_told_otherwise(self, scripted, saying, monkeypatch):
        lm = scripted(saying("ok"), generation_config={"do_sample": True, "top_k": 64, "top_p": 0.95})
        asked = []
        monkeypatch.setattr(lm, "generate", lambda prompt, **options: asked.append(options))
        monkeypatch.setattr(lm, "stream", lambda prompt, **options: asked.append(options))
        lm.chat(self.MESSAGES)
        lm.chat_stream(self.MESSAGES, top_k=3, max_tokens=5)
        assert asked == [
            {"temperature": 1.0, "top_k": 64, "top_p": 0.95},
            {"temperature": 1.0, "top_k": 3, "top_p": 0.95, "max_tokens": 5},
        ]

    def test_generate_stays_greedy_whatever_the_model_recommends(self, scripted, saying):
        lm = scripted(saying("ok"), generation_config={"do_sample": True, "temperature": 2.0})
        assert lm._options(1, (), None, {}).sampling == SamplingOptions()

    def test_base_model_without_a_template(self, scripted, saying):
        lm = scripted(saying("ok"), template=False, name="base")
        for call in (lm.chat, lm.chat_stream, lm.chat_prompt):
            with pytest.raises(TemplateError, match=r"base: the model has no chat template. Use generate\(\) or"):
                call(self.MESSAGES)


@pytest.mark.parametrize(
    ("settings", "defaults"),
    [
        pytest.param({}, {}, id="none"),
        pytest.param({"do_sample": True}, {"temperature": 1.0}, id="sampling"),
        pytest.param(
            {"do_sample": True, "temperature": 0.7, "top_k": 50, "min_p": 0.1, "top_p": None},
            {"temperature": 0.7, "top_k": 50, "min_p": 0.1},
            id="all-but-none",
        ),
        pytest.param({"temperature": 0.7}, {"temperature": 0.7}, id="temperature-means-sampling"),
        pytest.param(
            {"do_sample": False, "temperature": 0.7, "repetition_penalty": 1.2},
            {"repetition_penalty": 1.2},
            id="greedy",
        ),
        pytest.param({"top_k": 64}, {}, id="cuts-alone-do-not-draw"),
    ],
)
def test_defaults_of_a_generation_config(settings, defaults):
    assert sampling_defaults(settings) == defaults


class TestScore:
    def test_sum_and_tokens(self, scripted, saying, tokenizer):
        lm = scripted(saying("x"))
        score = lm.score("a house", " is small")
        together = tokenizer.encode("a house is small")
        assert score.token_ids == together[len(tokenizer.encode("a house")) :]
        assert score.token_logprobs == [-0.5 * token_id for token_id in score.token_ids]
        assert score.logprob == pytest.approx(sum(score.token_logprobs))

    def test_a_border_inside_a_token_splits_it(self, scripted, saying, tokenizer):
        lm = scripted(saying("x"))
        score = lm.score("a riv", "er")
        assert tokenizer.encode("a river")[: len(tokenizer.encode("a riv"))] != tokenizer.encode("a riv")
        assert score.token_ids == tokenizer.encode("er", add_bos=False)

    def test_token_ids(self, scripted, saying):
        score = scripted(saying("x")).score([2, 400], [401, 402])
        assert (score.token_ids, score.token_logprobs) == ([401, 402], [-200.5, -201.0])

    def test_whole_context_may_be_scored(self, scripted, saying):
        lm = scripted(saying("x"), context=10)
        assert len(lm.score([2] * 4, [5] * 6).token_logprobs) == 6
        with pytest.raises(ContextLengthError, match="prompt: it has 11 tokens, but the context is 10 tokens"):
            lm.score([2] * 4, [5] * 7)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        pytest.param({"prompt": ""}, UsageError, "prompt: it is empty, expected some text", id="empty-text"),
        pytest.param({"prompt": ["a", ""]}, UsageError, "prompt: it is empty, expected some text", id="one-empty-text"),
        pytest.param({"prompt": [[2], []]}, UsageError, "prompt: it is empty, expected at least one", id="empty-ids"),
        pytest.param(
            {"prompt": [2] * 60},
            ContextLengthError,
            "prompt: it has 60 tokens, but the context is 60 tokens. Shorten it",
            id="prompt-fills-the-context",
        ),
        pytest.param({"max_tokens": 0}, UsageError, "max_tokens is 0, expected at least 1", id="max-tokens"),
        pytest.param({"n": 0}, UsageError, "n is 0, expected at least 1", id="n"),
        pytest.param({"stop": ["a", ""]}, UsageError, "stop: a stop string is empty", id="empty-stop"),
        pytest.param({"logprobs": -1}, UsageError, "logprobs is -1, expected None or 0 to 64", id="logprobs"),
        pytest.param({"logprobs": 65}, UsageError, "logprobs is 65, expected None or 0 to 64", id="many-logprobs"),
        pytest.param(
            {"temprature": 1},
            UsageError,
            "unknown option 'temprature', expected one of frequency_penalty, logit_bias",
            id="unknown-option",
        ),
        pytest.param(
            {"logit_bias": {704: 1}}, UsageError, "logit_bias: 704 is not a token id, expected 0 to 703", id="bias"
        ),
        pytest.param({"temperature": -1}, UsageError, "temperature is -1, expected a number at least 0", id="below-0"),
        pytest.param({"top_p": 0}, UsageError, "top_p is 0, expected a number above 0 and at most 1", id="top-p"),
    ],
)
def test_wrong_use_is_named(scripted, saying, arguments, error, message):
    lm = scripted(saying("x"))
    with pytest.raises(error, match=message):
        lm.generate(**({"prompt": "a"} | arguments))
    assert lm.engine_model.calls == []


@pytest.mark.parametrize("context", [0, 61], ids=["none", "more-than-the-model"])
def test_context_beyond_the_model_is_named(scripted, saying, tokenizer, context):
    engine_model = scripted(saying("x")).engine_model
    with pytest.raises(ContextLengthError, match=f"context is {context}, expected 1 to 60, the model's own context"):
        TextModel(engine_model, tokenizer, None, context=context)


def test_smaller_context_holds(scripted, saying, tokenizer):
    lm = TextModel(scripted(saying([400] * 50)).engine_model, tokenizer, None, context=12)
    assert lm.context == 12
    assert len(lm.generate([2] * 9, max_tokens=50).token_ids) == 3
    with pytest.raises(ContextLengthError, match="prompt: it has 12 tokens, but the context is 12 tokens"):
        lm.generate([2] * 12)
    with pytest.raises(ContextLengthError, match="prompt: it has 13 tokens, but the context is 12 tokens"):
        lm.logits([2] * 13)


def test_empty_continuation_is_named(scripted, saying):
    for continuation in ("", []):
        with pytest.raises(UsageError, match="continuation: it is empty, expected at least one token"):
            scripted(saying("x")).score("a", continuation)


def test_engine_without_a_keras_model_says_so(scripted, saying):
    with pytest.raises(UsageError, match='engine "scripted" has no Keras model; load with engine="jax"'):
        _ = scripted(saying("x")).keras_model


def test_facts_come_from_the_engine(scripted, saying):
    lm = scripted(saying("x"))
    assert (lm.engine, lm.dtype, lm.device, lm.num_threads) == ("scripted", "float32", "cpu", 1)
    assert lm.config is lm.engine_model.config
    assert lm.context == 60
    assert lm.logits([2, 3]).shape == (2, 704)


def test_close_frees_the_engine(scripted, saying):
    lm = scripted(saying("x"))
    lm.close()
    with pytest.raises(BackendError, match="model: it was closed"):
        lm.generate("a")


def test_stream_and_generate_take_the_same_options():
    generate, stream = (inspect.signature(method).parameters for method in (TextModel.generate, TextModel.stream))
    assert [name for name in generate if name != "n"] == list(stream)
