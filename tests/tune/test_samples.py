"""Token ids and masks: what is learnt is the answer and its end, whatever the template."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemcut.errors import DataError, UsageError
from gemcut.text import ChatTemplate, Tokenizer, chat_template_for
from gemcut.tune.record_formats import Conversation, Pair, PlainText
from gemcut.tune.samples import Sample, SampleMaker

WHERE = "data.jsonl, line 1"
HELLO = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
TWO = [*HELLO, {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]


def learnt(sample: Sample, tokenizer: Tokenizer) -> list[str]:
    """The runs of tokens that are learnt, as text."""
    runs, before = [], False
    for token_id, flag in zip(sample.token_ids.tolist(), sample.is_target.tolist(), strict=True):
        if flag and not before:
            runs.append([])
        if flag:
            runs[-1].append(token_id)
        before = flag
    return [tokenizer.decode(run, skip_special=False, continues_prompt=True) for run in runs]


def whole(sample: Sample, tokenizer: Tokenizer) -> str:
    return tokenizer.decode(sample.token_ids.tolist(), skip_special=False)


def conversation(messages: list[dict]) -> Conversation:
    return Conversation(tuple(messages), None, WHERE)


def pair(prompt: str, completion: str, system: str | None = None) -> Pair:
    return Pair(prompt, prompt, completion, system, WHERE)


@pytest.fixture(scope="session")
def template(gemma: Tokenizer) -> ChatTemplate:
    return chat_template_for(gemma, "gemma3_text", where="tiny")


def test_a_conversation(gemma, template):
    sample = SampleMaker(gemma, template).make(conversation(TWO))
    assert whole(sample, gemma) == (
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
        "<start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\nSo.<end_of_turn>\n"
    )
    assert learnt(sample, gemma) == ["So.<end_of_turn>"]
    assert sample.source == WHERE
    every = SampleMaker(gemma, template, every_turn=True).make(conversation(TWO))
    assert every.token_ids.tolist() == sample.token_ids.tolist()
    assert learnt(every, gemma) == ["Hello.<end_of_turn>", "So.<end_of_turn>"]


def test_turns_of_weight_0_are_given(gemma, template):
    maker = SampleMaker(gemma, template, every_turn=True)
    messages = [TWO[0], {**TWO[1], "weight": 0}, TWO[2], {**TWO[3], "weight": 1}]
    assert learnt(maker.make(conversation(messages)), gemma) == ["So.<end_of_turn>"]
    assert maker.make(conversation([HELLO[0], {**HELLO[1], "weight": 0}])).num_targets == 0


def test_the_prompt_is_what_generation_would_be_given(gemma, template):
    sample = SampleMaker(gemma, template).make(conversation(TWO))
    prompt = template.encode(TWO[:3])
    assert sample.token_ids[: len(prompt)].tolist() == prompt
    assert sample.is_target.tolist().index(True) == len(prompt)


def test_pairs_with_and_without_a_template(gemma, template):
    chat = SampleMaker(gemma, template).make(pair("Hi", "Hello.", "Short."))
    assert whole(chat, gemma).startswith(
        "<bos><start_of_turn>user\nShort.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello"
    )
    assert learnt(chat, gemma) == ["Hello.<end_of_turn>"]
    plain = SampleMaker(gemma, None).make(pair("Hi", " Hello."))
    assert whole(plain, gemma) == "<bos>Hi Hello.<eos>"
    assert learnt(plain, gemma) == [" Hello.<eos>"]


def test_a_system_message_of_the_recipe(gemma, template):
    maker = SampleMaker(gemma, template, system="Short.")
    own = [{"role": "system", "content": "Long."}, *HELLO]
    for messages, said in ((HELLO, "Short.\n\nHi"), (own, "Long.\n\nHi")):
        assert said in whole(maker.make(conversation(messages)), gemma)


def test_a_text_is_learnt_whole(gemma):
    sample = SampleMaker(gemma, None).make(PlainText("The house.", WHERE))
    assert whole(sample, gemma) == "<bos>The house.<eos>"
    assert learnt(sample, gemma) == ["The house.<eos>"]
    assert sample.num_targets == len(sample) - 1


def test_control_tokens_in_texts_are_texts(gemma, template):
    said = "a<end_of_turn>\n<start_of_turn>user\n<bos>b"
    for maker, example in (
        (SampleMaker(gemma, template), conversation([HELLO[0], {"role": "assistant", "content": said}])),
        (SampleMaker(gemma, None), pair(said, said)),
    ):
        sample = maker.make(example)
        assert sample.token_ids.tolist().count(gemma.bos_token_id) == 1
        assert learnt(sample, gemma)[0].startswith("a<end_of_turn>\n<start_of_turn>user\n<bos>b")
        assert len(learnt(sample, gemma)) == 1


@pytest.mark.parametrize("completion", ["", "  \n"])
def test_an_empty_completion_has_nothing_to_learn(gemma, template, completion):
    for maker in (SampleMaker(gemma, template), SampleMaker(gemma, None)):
        sample = maker.make(pair("Hi", completion))
        assert sample.num_targets == 0
        assert not sample.is_target.any()
    assert SampleMaker(gemma, None).make(PlainText("", WHERE)).num_targets == 0


def test_an_answer_that_calls_a_tool_is_learnt(gemma):
    source = (
        "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content or m.tool_calls[0].function.name }}"
        "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>assistant\n{% endif %}"
    )
    call = {"type": "function", "function": {"name": "river", "arguments": "{}"}}
    messages = [
        HELLO[0],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "7"},
        HELLO[1],
    ]
    maker = SampleMaker(gemma, ChatTemplate(source, tokenizer=gemma, where="t"), every_turn=True)
    assert learnt(maker.make(conversation(messages)), gemma) == ["river<end_of_turn>", "Hello.<end_of_turn>"]


def test_prompts_that_end_within_a_token_are_encoded_apart(gemma):
    maker = SampleMaker(gemma, None)
    sample = maker.make(pair("The ", "house"))
    assert maker.num_apart == 1
    prompt = gemma.encode("The ")
    assert sample.token_ids[: len(prompt)].tolist() == prompt
    assert learnt(sample, gemma) == ["house<eos>"]
    maker.make(pair("The", " house"))
    assert maker.num_apart == 1


def test_a_tokenizer_that_puts_spaces_before_texts(llama):
    maker = SampleMaker(llama, None)
    assert learnt(maker.make(pair("The", " house")), llama) == [" house</s>"]
    with pytest.raises(DataError, match=r"line 1: prompt and completion meet within a word.*Begin the completion with"):
        maker.make(pair("The hou", "se"))


TEXTS = st.text(st.sampled_from("aä the\n\t <>😀{}|").filter(bool), max_size=12)


@given(TEXTS, TEXTS)
@settings(max_examples=150, deadline=None)
def test_plain_pairs_by_property(gemma, prompt, completion):
    sample = SampleMaker(gemma, None).make(pair(prompt, completion))
    given_ids = gemma.encode(prompt)
    assert sample.token_ids[: len(given_ids)].tolist() == given_ids
    assert whole(sample, gemma) == f"<bos>{prompt}{completion}<eos>"
    if completion.strip():
        assert sample.is_target.tolist() == [False] * len(given_ids) + [True] * (len(sample) - len(given_ids))


@given(st.lists(TEXTS.filter(str.strip), min_size=2, max_size=6).filter(lambda texts: len(texts) % 2 == 0))
@settings(max_examples=80, deadline=None)
def test_conversations_by_property(gemma, template, texts):
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    sample = SampleMaker(gemma, template, every_turn=True).make(conversation(messages))
    assert learnt(sample, gemma) == [f"{text.strip()}<end_of_turn>" for text in texts[1::2]]
    assert sample.token_ids.tolist() == template.encode(messages, add_generation_prompt=False)


def made(source: str, gemma: Tokenizer, messages: list[dict] = TWO, **options) -> Sample:
    template = ChatTemplate(source, tokenizer=gemma, where="own template")
    return SampleMaker(gemma, template, **options).make(conversation(messages))


LOOP = "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
PROMPT = "{% if add_generation_prompt %}<start_of_turn>assistant\n{% endif %}"


def test_templates_that_change_what_was_said(gemma):
    changing = LOOP.replace("{{ m.content }}", "{{ m.content if loop.last or m.role == 'user' else 'x' }}") + PROMPT
    assert made(changing, gemma).num_targets  # the last prompt is the beginning of the whole
    with pytest.raises(
        DataError, match=r"line 1: own template writes the conversation up to messages\[1\] otherwise.*\(token \d+: 'H"
    ):
        made(changing, gemma, every_turn=True)
    with pytest.raises(DataError, match=r"before messages\[3\] otherwise than as the beginning of the whole"):
        made(LOOP + "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}", gemma)


def test_a_template_that_opens_no_turn(gemma):
    with pytest.raises(DataError, match=r"own template opens no turn for an answer \(add_generation_prompt changes"):
        made(LOOP, gemma)


def test_a_template_without_end_markers(gemma):
    source = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    assert learnt(made(source.replace("[{{ m.role }}]", ">"), gemma, HELLO), gemma) == ["> Hello.\n"]


@pytest.mark.parametrize("source", [LOOP.removeprefix("{{ bos_token }}") + PROMPT, "{{ bos_token }}" + LOOP + PROMPT])
def test_bos_is_there_once_even_if_the_template_forgets_or_doubles_it(gemma, source):
    sample = made(source, gemma)
    assert sample.token_ids[:2].tolist() == [gemma.bos_token_id, gemma.id_of("<start_of_turn>")]


def test_a_template_that_begins_before_bos(gemma):
    with pytest.raises(DataError, match=r"line 1: begins with the tokens \[2, 2\], expected BOS \(id 2\) once"):
        SampleMaker(gemma, None)._check_bos(Sample([2, 2, 5], [0, 0, 1], WHERE))


def test_what_a_template_refuses_names_the_line(gemma):
    template = chat_template_for(gemma, "gemma", where="tiny")
    with pytest.raises(DataError, match=r"line 1: .*the template refuses these messages: System role not supported"):
        SampleMaker(gemma, template).make(conversation([{"role": "system", "content": "S"}, *HELLO]))
    image = [{"role": "user", "content": [{"type": "image"}]}, HELLO[1]]
    with pytest.raises(DataError, match=r"line 1: messages\[0\]: a content part is of type 'image'"):
        SampleMaker(gemma, template).make(conversation(image))


def test_what_needs_a_template(gemma):
    with pytest.raises(DataError, match="line 1: is a conversation, but there is no chat template"):
        SampleMaker(gemma, None).make(conversation(HELLO))
    with pytest.raises(DataError, match="line 1: has a system message, but there is no chat template to say it"):
        SampleMaker(gemma, None).make(pair("a", "b", "S"))
    with pytest.raises(UsageError, match="system: it is a message of a chat"):
        SampleMaker(gemma, None, system="S")


def test_a_tokenizer_without_eos(gemma, monkeypatch):
    monkeypatch.setattr(gemma, "eos_token_id", None)
    with pytest.raises(DataError, match="the tokenizer has no EOS"):
        SampleMaker(gemma, None)


FAMILIES = {
    "gemma-1": ("gemma", ["Hello.<end_of_turn>", "So.<end_of_turn>"], 1),
    "gemma-3": ("gemma3_text", ["Hello.<end_of_turn>", "So.<end_of_turn>"], 1),
    "mistral-v0.1": ("mistral", ["Hello.</s>", "So.</s>"], 1),
}


@pytest.mark.parametrize(("name", "model_type", "wanted", "num_bos"), [(k, *v) for k, v in FAMILIES.items()])
def test_real_templates(real_tokenizer, name, model_type, wanted, num_bos):
    tokenizer = real_tokenizer(name)
    for source in (None, tokenizer.chat_template):
        template = chat_template_for(tokenizer, model_type, where=name, source=source)
        sample = SampleMaker(tokenizer, template, every_turn=True).make(conversation(TWO))
        assert learnt(sample, tokenizer) == wanted
        assert sample.token_ids.tolist().count(tokenizer.bos_token_id) == num_bos


def test_llama_2_begins_every_exchange_with_bos(real_tokenizer):
    tokenizer = real_tokenizer("mistral-v0.1")  # the pieces that the template needs are the same
    from gemcut.text import builtin_template

    template = ChatTemplate(builtin_template("llama", tokenizer), tokenizer=tokenizer, where="llama")
    sample = SampleMaker(tokenizer, template, every_turn=True).make(conversation(TWO))
    assert [text.strip() for text in learnt(sample, tokenizer)] == ["Hello. </s>", "So. </s>"]
    assert sample.token_ids.tolist().count(tokenizer.bos_token_id) == 2
