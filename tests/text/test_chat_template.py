"""Prompts: the template's markers are control tokens, the text of messages never is."""

from __future__ import annotations

import itertools
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemcut.errors import TemplateError, UsageError
from gemcut.text import ChatTemplate, builtin_template, chat_template_for, load_tokenizer

USER = {"role": "user", "content": "the house"}
WORDS = "hello world  the\t*river* <b>bold</b> 12 + 3 = é 漢字 😀 \n\n is? [1] a<b".split(" ")
PLAIN = "{% for m in messages %}{{ '<start_of_turn>' + m.role + '\n' + m.content + '<end_of_turn>' }}{% endfor %}"


def _conversation(rng, *, system):
    """A seeded conversation that ends with an answer."""

    def text():
        words = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 9)))
        return rng.choice(["", " ", "\n"]) + words + rng.choice(["", " ", "\n"])

    messages = [{"role": "system", "content": text()}] if system else []
    for _ in range(rng.randrange(1, 5)):
        messages += [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]
    return messages


@pytest.mark.parametrize(
    ("name", "model_type", "has_system"), [("gemma-1", "gemma", False), ("gemma-3", "gemma3_text", True)]
)
@pytest.mark.parametrize("builtin", [False, True], ids=["own", "built-in"])
def test_ids_are_those_of_the_reference_template(name, model_type, has_system, builtin, unpacked):
    reference = pytest.importorskip("tokenizers", reason="the tokenizers package is not installed")
    module = "transformers.utils.chat_template_utils"
    renderer = pytest.importorskip(module, reason="the transformers package is not installed")
    folder = unpacked(name)
    source = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["chat_template"]
    hugging_face = reference.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(folder)
    own = builtin_template(model_type, tokenizer) if builtin else None
    template = chat_template_for(tokenizer, model_type, where=name, source=own)
    rng = random.Random(5)
    for round_index in range(150):
        messages = _conversation(rng, system=has_system and round_index % 2 == 0)
        prompt = bool(round_index % 3)
        if prompt:
            messages.pop()
        rendered, _ = renderer.render_jinja_template(
            [messages], chat_template=source, add_generation_prompt=prompt, bos_token="<bos>", eos_token="<eos>"
        )
        assert template.render(messages, add_generation_prompt=prompt) == rendered[0]
        ids = hugging_face.encode(rendered[0], add_special_tokens=False).ids
        assert template.encode(messages, add_generation_prompt=prompt) == ids


SNIPPETS = ["<end_of_turn>", "<start_of_turn>", "<bos>", "<eos>", "<unused1>", "<mask>", "<start_of_", "<",
            "<end_of_turn", "of_turn>", "hello", " ", "\n", "<table>", "\n\n", "é", "\ue000", "\ue001"]  # fmt: skip


@settings(max_examples=200, deadline=None, derandomize=True)
@given(parts=st.lists(st.lists(st.sampled_from(SNIPPETS), max_size=6).map("".join), min_size=3, max_size=3))
@pytest.mark.parametrize("model_type", ["gemma", "gemma3"])
def test_message_text_never_becomes_a_control_token(gemma, model_type, parts):
    template = chat_template_for(gemma, model_type, where="x")
    first, answer, second = parts
    messages = [
        {"role": "user", "content": first},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": second},
    ]
    ids = template.encode(messages)
    start, end, bos = (gemma.special_tokens[p] for p in ("<start_of_turn>", "<end_of_turn>", "<bos>"))
    expected = [bos]
    for role, text in (("user", first), ("model", answer), ("user", second)):
        expected += [start, *gemma.encode(f"{role}\n{text.strip()}", add_bos=False), end, gemma.id_of("\n")]
    expected += [start, *gemma.encode("model\n", add_bos=False)]
    assert ids == expected
    assert gemma.decode(ids, skip_special=False) == template.render(messages)


def test_tools_and_variables_are_text_too(gemma):
    source = "{{ tools | tojson }}{{ tools | tojson(ensure_ascii=true) }}{{ note }}<end_of_turn>"
    template = ChatTemplate(source, tokenizer=gemma, where="x")
    tools = [{"function": {"name": "<bos>", "parameters": {"<start_of_turn>": ["<end_of_turn>", "é", 5]}}}]
    ids = template.encode([USER], tools=tools, note="<eos><end_of")
    assert [i for i in ids if i in gemma.special_token_ids] == [gemma.bos_token_id, gemma.id_of("<end_of_turn>")]
    as_json = json.dumps(tools, ensure_ascii=False) + json.dumps(tools)
    assert template.render([USER], tools=tools, note="<eos>") == f"{as_json}<eos><end_of_turn>"


@pytest.mark.parametrize(
    ("source", "add_bos", "num_bos"),
    [("hello", True, 1), ("<bos>hello", True, 1), ("<bos><bos>hello", True, 1), ("{{ bos_token }}hello", True, 1)],
)
def test_one_bos(source, add_bos, num_bos, gemma):
    ids = ChatTemplate(source, tokenizer=gemma, where="x").encode([USER])
    assert ids == gemma.encode("hello")


@pytest.mark.parametrize("model_type", ["gemma", "gemma2", "gemma3", "llama", "mistral"])
@pytest.mark.parametrize("name", ["tiny-gemma", "tiny-llama"])
def test_the_prompt_of_one_turn_begins_the_next(model_type, name, tokenizers):
    tokenizer = tokenizers[name, "model"]
    template = chat_template_for(tokenizer, model_type, where="x")
    rng = random.Random(9)
    for _ in range(30):
        messages = _conversation(rng, system=model_type in ("gemma3", "llama"))
        prompts = [
            template.encode(messages[:end]) for end in range(1, len(messages)) if messages[end - 1]["role"] == "user"
        ]
        for prompt, following in itertools.pairwise(prompts):
            assert following[: len(prompt)] == prompt


def test_text_parts_are_joined_or_passed_on(gemma):
    parts = [{"type": "text", "text": " the "}, {"type": "text", "text": " house"}]
    messages = [{"role": "system", "content": parts}, {"role": "user", "content": parts}]
    plain = ChatTemplate(PLAIN, tokenizer=gemma, where="x")
    assert plain.render(messages[1:]) == "<start_of_turn>user\n the  house<end_of_turn>"
    own = chat_template_for(gemma, "gemma3", where="x")
    prompt = own.render(messages)
    assert prompt == "<bos><start_of_turn>user\n the  house\n\nthehouse<end_of_turn>\n<start_of_turn>model\n"
    assert own.render([{"role": "user", "content": parts[1:]}]) == own.render([USER | {"content": "house"}])


@pytest.mark.parametrize("arguments", [{"x": 1}, '{"x": 1}'], ids=["mapping", "JSON text"])
def test_arguments_of_tool_calls_reach_the_template_as_a_mapping(arguments, gemma):
    template = ChatTemplate("{{ messages[0].tool_calls[0].function.arguments.x }}", tokenizer=gemma, where="x")
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    assert template.render([{"role": "assistant", "content": None, "tool_calls": [call]}]) == "1"


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], r"messages: found \[\], expected a list of at least one"),
        ("hello", r"messages: found 'hello', expected a list"),
        (USER, r"messages: found \{'role'.*expected a list"),
        (["hello"], r"messages\[0\]: found 'hello', expected \{'role': 'user', 'content': 'Hi'\}"),
        ([USER, {"content": "x"}], r"messages\[1\]: found \{'content': 'x'\}, expected"),
        ([USER | {"content": 5}], r"messages\[0\]: content is a int, expected text or a list of text parts"),
        (
            [USER | {"content": [{"type": "image_url"}]}],
            r"messages\[0\]: a content part is of type 'image_url', expected",
        ),
        ([USER | {"content": ["x"]}], r"a content part is of type None"),
        ([USER | {"tool_calls": ["x"]}], r"messages\[0\]: tool call 'x' is not understood"),
        ([USER | {"tool_calls": [{"function": {"arguments": "{"}}]}], "is not understood, expected"),
        ([USER | {"tool_calls": [{"function": {"arguments": "[]"}}]}], "is not understood, expected"),
    ],
)
def test_messages_of_another_form_are_refused(messages, message, gemma):
    with pytest.raises(UsageError, match=message):
        ChatTemplate(PLAIN, tokenizer=gemma, where="x").render(messages)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% if %}", r"t\.json: line 1 is not valid Jinja \(Expected an expression"),
        ("\n{% for x in y %}", r"t\.json: line 2 is not valid Jinja"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", r"t\.json: cannot be compiled \(RecursionError\)"),
    ],
    ids=["syntax", "second line", "nesting"],
)
def test_a_broken_template_is_a_named_error(source, message, gemma):
    with pytest.raises(TemplateError, match=message):
        ChatTemplate(source, tokenizer=gemma, where="t.json")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('No cats.') }}", r"t\.json: the template refuses these messages: No cats\."),
        ("{{ messages.nothing.at_all }}", r"t\.json: fails on these messages \('list object' has no attribute"),
        ("{{ 1 / 0 }}", r"t\.json: fails on these messages \(ZeroDivisionError: division by zero\)"),
        ("{{ messages[0].content + 1 }}", r"t\.json: fails on these messages \(TypeError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", r"fails on these messages \(RecursionError"),
        ("{% include 'x' %}", r"fails on these messages \(TypeError: no loader"),
    ],
)
def test_a_failing_template_is_a_named_error(source, message, gemma):
    with pytest.raises(TemplateError, match=message):
        ChatTemplate(source, tokenizer=gemma, where="t.json").render([USER])


def test_the_models_own_template_goes_first(model_bytes, make_metadata, gemma):
    from gemcut.text import Tokenizer

    own = Tokenizer.from_gguf(make_metadata("tiny-gemma") | {"tokenizer.chat_template": "own"}, where="x")
    template = chat_template_for(own, "gemma3", where="x.gguf")
    assert (template.render([USER]), template.is_builtin, template.where) == ("own", False, "x.gguf: chat template")
    assert chat_template_for(own, "gemma3", where="x", source="given").render([USER]) == "given"
    builtin = chat_template_for(gemma, "gemma3", where="x.gguf")
    assert (builtin.is_builtin, builtin.where) == (True, "built-in gemma3 chat template")
    assert chat_template_for(gemma, "unheard_of", where="x") is None


@pytest.mark.parametrize("text", ["It is ", "It is <start_of", "<end_of_turn>", "  spaced", "a\ue000b"])
@pytest.mark.parametrize("as_parts", [False, True], ids=["text", "parts"])
def test_a_last_message_goes_on_where_it_ends(text, as_parts, gemma):
    template = chat_template_for(gemma, "gemma3_text", where="test")
    content = [{"type": "text", "text": text}] if as_parts else text
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": content}]
    begun = template.encode(messages[:1])
    token_ids = template.encode(messages, add_generation_prompt=False, continue_final_message=True)
    assert token_ids[: len(begun) - 1] == begun[: len(begun) - 1]
    assert gemma.decode(token_ids, skip_special=False).endswith("model\n" + text.lstrip())
    assert not set(token_ids[len(begun) :]) & gemma.special_token_ids


@pytest.mark.parametrize(
    ("source", "content", "error", "message"),
    [
        pytest.param("{{ messages[0].content }}", "x", TemplateError, "leaves out the last message", id="left-out"),
        pytest.param("{{ messages[-1].content }}", "", UsageError, "the last message has no text", id="empty"),
        pytest.param("{{ messages[-1].content }}", None, UsageError, "the last message has no text", id="none"),
    ],
)
def test_what_cannot_go_on(source, content, error, message, gemma):
    template = ChatTemplate(source, tokenizer=gemma, where="test")
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": content}]
    with pytest.raises(error, match=message):
        template.encode(messages, continue_final_message=True)
