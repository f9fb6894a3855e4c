"""Requests become the token ids that lm-evaluation-harness sends, with BOS exactly once."""

from __future__ import annotations

import random

import numpy as np
import pytest
from runner_models import number_model, tiny_tokenizer

from gemcut.errors import DataError, TemplateError, UsageError
from gemcut.evaluate.encoding import Encoder, _Cuts
from gemcut.evaluate.task import GenerateRequest, RollingRequest, ScoreRequest

BOS = 2
ALPHABET = (
    "a",
    "the ",
    "\n",
    "\n\n",
    " ",
    "  ",
    "é",
    "7",
    "<b>",
    "\u2581",
    "Question:",
    "漢",
    "\t",
    "\r\n",
    "</b>",
    ".",
)


def encode(request, before="", model=None, **how):
    return Encoder(model or number_model(), **how).encode(request, "task, item 7", before)


@pytest.mark.parametrize(
    ("context", "continuation", "moved"),
    [
        ("Answer:", " two", ""),
        ("Answer: ", "two", " "),
        ("a \n ", "b", " \n "),
        ("\n", "b", "\n"),
        ("one", "\ntwo", ""),
    ],
    ids=["plain", "space", "line-break", "only-spaces", "line-break-after"],
)
def test_both_are_encoded_together_and_spaces_at_the_border_are_scored(context, continuation, moved):
    model = number_model()
    found = encode(ScoreRequest(context, continuation), model=model)
    known = model.tokenizer.encode(context[: len(context) - len(moved)])
    assert found.context.tolist() == known
    assert found.token_ids.tolist() == known + model.tokenizer.encode(context + continuation)[len(known) :]
    assert (found.context.dtype, found.num_cut) == (np.int32, 0)


def test_a_text_without_context_follows_bos():
    model = number_model()
    found = encode(ScoreRequest("", "the answer"), model=model)
    assert found.context.tolist() == [BOS]
    assert found.continuation.tolist() == model.tokenizer.encode("the answer")[1:]


def test_choices_share_the_context():
    encoder = Encoder(number_model())
    first, second = (encoder.encode(ScoreRequest("Answer:", end), "x") for end in (" a", " b"))
    assert first.context is second.context


@pytest.mark.parametrize("name", ["tiny-gemma", "tiny-llama"])
def test_the_short_way_gives_the_ids_of_the_long_one(name):
    tokenizer, generator, num_short = tiny_tokenizer(name), random.Random(3), 0
    for _ in range(40):
        before = "".join(generator.choices(ALPHABET, k=generator.randrange(1, 12))) + generator.choice(
            ("\n\n", "\n", "", " ")
        )
        cuts = _Cuts(tokenizer)
        for _ in range(12):
            text = before + "".join(generator.choices(ALPHABET, k=generator.randrange(1, 9)))
            assert cuts.encode(text, before) == tokenizer.encode(text)
        num_short += bool(cuts._num_checked)
    assert (num_short > 5) == (name == "tiny-gemma")


def test_a_tokenizer_that_joins_over_line_breaks_is_asked_for_whole_texts():
    """What the vocabulary promises is looked at, too: the first texts of each beginning are encoded both ways."""
    tokenizer = tiny_tokenizer()
    cuts = _Cuts(tokenizer)
    before, texts = "one\n\n", [f"one\n\nq{number}" for number in range(20)]
    plain = tokenizer.encode
    tokenizer.encode = lambda text, **how: [*plain(text, **how), 9] if text == texts[3] else plain(text, **how)
    assert [cuts.encode(text, before) for text in texts] == [tokenizer.encode(text) for text in texts]
    assert not cuts._works


@pytest.mark.parametrize("add", [False, True], ids=["never", "twice"])
def test_bos_that_is_not_there_once_is_refused(add):
    if add:
        model = number_model(template="{{ bos_token }}{{ messages[0].content }}{{ bos_token }}")
        message, how = r"task, item 7: BOS \(id 2\) is there 2 times, expected once, at the front", {"chat": True}
    else:
        model, how = number_model(add_bos=False), {}
        message = r"task, item 7: BOS \(id 2\) is there 0 times, expected once, at the front"
    for request in (ScoreRequest("a", " b"), GenerateRequest("a", (), 3)):
        with pytest.raises(DataError, match=message):
            encode(request, model=model, **how)


def test_bos_in_another_place_is_refused():
    model = number_model(template="<start_of_turn>{{ bos_token }}{{ messages[0].content }}", add_bos=False)
    with pytest.raises(DataError, match=r"BOS \(id 2\) is there at place 2, expected once, at the front"):
        encode(GenerateRequest("a", (), 3), model=model, chat=True)


def test_a_prompt_that_is_too_long_loses_its_left_but_for_bos():
    model = number_model(context=12)
    context = model.tokenizer.encode("one two three four five six")
    assert len(context) > 14
    found = encode(ScoreRequest("one two three four five six", " a"), model=model)
    assert len(found.token_ids) == 12
    assert found.context.tolist() == [BOS, *context[-(11 - len(found.continuation)) :]]
    assert found.num_cut == len(context) + len(found.continuation) - 12
    prompt = encode(GenerateRequest("one two three four five six", (), 4), model=model)
    assert prompt.token_ids.tolist() == [BOS, *context[-7:]]
    assert prompt.num_cut == len(context) - 8


def test_what_is_scored_is_never_cut():
    with pytest.raises(
        DataError, match="task, item 7: what is scored does not fit the context of 12 tokens with one before"
    ):
        encode(ScoreRequest("a", " one two three four five six"), model=number_model(context=12))
    with pytest.raises(
        UsageError, match="task, item 7: up to 11 tokens are to be written, but prompt and answer together have 12"
    ):
        encode(GenerateRequest("a", (), 11), model=number_model(context=12))


@pytest.mark.parametrize("num_words", [1, 9, 10, 11, 40])
def test_each_token_of_a_long_text_is_scored_once_after_bos(num_words):
    model = number_model(context=10)
    text = " ".join(["a"] * num_words)
    token_ids = model.tokenizer.encode(text)[1:]
    found = encode(RollingRequest(text), model=model)
    scored = [token for row, count in found.windows for token in row[len(row) - count :].tolist()]
    assert scored == token_ids
    assert found.num_tokens == len(token_ids)
    assert all(row[0] == BOS and len(row) <= 10 for row, _ in found.windows)
    assert all(len(row) > count + 1 for row, count in found.windows[1:])
    if len(token_ids) >= 9:
        assert {len(row) for row, _ in found.windows} == {10}


def test_texts_without_tokens_are_refused():
    with pytest.raises(DataError, match="task, item 7: '' has no tokens of its own after the question, expected one"):
        encode(ScoreRequest("a", ""))
    with pytest.raises(DataError, match="task, item 7: the text is empty, expected at least one token"):
        encode(RollingRequest(""))
    with pytest.raises(UsageError, match="task, item 7: the context is 2 tokens, expected at least 3"):
        encode(RollingRequest("a"), model=number_model(context=2))


def test_a_chat_is_one_message_after_the_system_s():
    model = number_model()
    found = encode(GenerateRequest("What <start_of_turn> is?", (), 3), model=model, chat=True, system="Be brief.")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What <start_of_turn> is?"}]
    assert found.token_ids.tolist() == model.template.encode(messages)
    marker = model.tokenizer.special_tokens["<start_of_turn>"]
    assert found.token_ids.tolist().count(marker) == 3  # none for the one in the question


def test_a_choice_follows_the_opening_of_the_model_s_turn_whose_line_break_is_scored():
    """So lm-evaluation-harness has it: spaces at the end of the rendered prompt go to the continuation."""
    model = number_model()
    found = encode(ScoreRequest("Pick:", "two"), model=model, chat=True)
    prompt = model.template.encode([{"role": "user", "content": "Pick:"}])
    line_break = model.tokenizer.encode("\n")[1:]
    assert found.token_ids.tolist() == prompt + model.tokenizer.encode("two", add_bos=False)
    assert found.continuation.tolist()[: len(line_break)] == line_break
    marker = model.tokenizer.special_tokens["<end_of_turn>"]
    assert marker not in encode(ScoreRequest("Pick:", "<end_of_turn>"), model=model, chat=True).continuation


def test_a_chat_needs_a_template_and_a_system_message_a_chat():
    with pytest.raises(TemplateError, match=r"tiny: the model has no chat template\. Leave --chat out"):
        encode(GenerateRequest("a", (), 3), model=number_model(template=None), chat=True)
    with pytest.raises(UsageError, match=r"--system: it is a message of a chat\. Add --chat"):
        encode(GenerateRequest("a", (), 3), system="Be brief.")


def test_a_tokenizer_without_bos():
    model = number_model()
    model.tokenizer.bos_token_id = None
    model.tokenizer.add_bos = False
    encoder = Encoder(model)
    assert encoder.bos_check == "none: the tokenizer has no BOS"
    found = encoder.encode(ScoreRequest("", "a"), "x")
    assert found.context.tolist() == [model.tokenizer.eos_token_id]
    model.tokenizer.eos_token_id = None
    with pytest.raises(DataError, match="x: the tokenizer has neither BOS nor EOS"):
        Encoder(model).encode(ScoreRequest("", "a"), "x")


def test_prompts_that_a_chat_template_has_made_keep_their_control_tokens():
    model = number_model()
    text = "<bos><start_of_turn>user\nthe answer<end_of_turn>"
    rendered = encode(GenerateRequest(text, (), 4), model=model, is_rendered=True)
    assert rendered.token_ids.tolist() == model.tokenizer.encode_parts(model.tokenizer.split_special(text))
    assert rendered.token_ids.tolist().count(BOS) == 1
