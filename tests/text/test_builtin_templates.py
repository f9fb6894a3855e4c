"""Gemcut's own templates write what the families were trained on."""

from __future__ import annotations

import json

import pytest

from gemcut.errors import TemplateError
from gemcut.text import Tokenizer, chat_template_for, load_tokenizer
from gemcut.text.tokenizer_settings import settings_from_config

SYSTEM = {"role": "system", "content": "Be kind."}
USER = {"role": "user", "content": " Hi there "}
ANSWER = {"role": "assistant", "content": " Hello. "}
AGAIN = {"role": "user", "content": "Bye"}
FUNCTION_TOKENS = [
    f"<{side}_function_{kind}>" for kind in ("declaration", "call", "response") for side in ("start", "end")
]
FUNCTION_TOKENS.append("<escape>")
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get current weather for a location",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string", "description": "City name"}},
            "required": ["location"],
        },
    },
}

GEMMA = "<bos><start_of_turn>user\nHi there<end_of_turn>\n<start_of_turn>model\n"
GEMMA_LONG = GEMMA + "Hello.<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
LLAMA_SYSTEM = "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\n Hi there [/INST]"


@pytest.mark.parametrize(
    ("model_type", "name", "messages", "expected"),
    [
        ("gemma", "tiny-gemma", [USER], GEMMA),
        ("gemma2", "tiny-gemma", [USER, ANSWER, AGAIN], GEMMA_LONG),
        ("gemma3", "tiny-gemma", [USER, ANSWER, AGAIN], GEMMA_LONG),
        ("gemma3_text", "tiny-gemma", [SYSTEM, USER], GEMMA.replace("Hi", "Be kind.\n\nHi")),
        ("llama", "tiny-llama", [USER], "<s>[INST] Hi there [/INST]"),
        ("llama", "tiny-llama", [SYSTEM, USER], LLAMA_SYSTEM),
        ("llama", "tiny-llama", [SYSTEM, USER, ANSWER, AGAIN], LLAMA_SYSTEM + " Hello. </s><s>[INST] Bye [/INST]"),
        ("mistral", "tiny-llama", [AGAIN], "<s>[INST] Bye [/INST]"),
        ("mistral", "tiny-llama", [AGAIN, {"role": "assistant", "content": "Hello."}, AGAIN],
         "<s>[INST] Bye [/INST]Hello.</s>[INST] Bye [/INST]"),
    ],
)  # fmt: skip
def test_prompts(model_type, name, messages, expected, tokenizers):
    template = chat_template_for(tokenizers[name, "model"], model_type, where="x")
    assert template.is_builtin
    assert template.render(messages) == expected
    assert expected.startswith(template.render(messages, add_generation_prompt=False))


@pytest.mark.parametrize(
    ("model_type", "messages", "message"),
    [
        ("gemma", [SYSTEM, USER], "built-in gemma chat template: the template refuses these messages: System role not"),
        ("gemma", [ANSWER], "Conversation roles must alternate"),
        ("gemma3", [USER, AGAIN], "Conversation roles must alternate"),
        ("gemma3", [SYSTEM, ANSWER], "Conversation roles must alternate"),
        ("llama", [ANSWER, USER], "Conversation roles must alternate"),
        ("llama", [USER, SYSTEM], "Conversation roles must alternate"),
        ("mistral", [SYSTEM, USER], "Conversation roles must alternate"),
    ],
)
def test_roles_out_of_turn_are_refused(model_type, messages, message, gemma):
    with pytest.raises(TemplateError, match=message):
        chat_template_for(gemma, model_type, where="x").render(messages)


@pytest.fixture
def function_gemma(model_bytes):
    """The tiny Gemma vocabulary with FunctionGemma's control tokens."""
    added = {str(6 + i): {"content": piece, "special": False} for i, piece in enumerate(FUNCTION_TOKENS)}
    settings = settings_from_config({"added_tokens_decoder": added}, "tokenizer_config.json")
    tokenizer = Tokenizer.from_sentencepiece(model_bytes("tiny-gemma"), where="tokenizer.model", settings=settings)
    return chat_template_for(tokenizer, "gemma3_text", where="x")


DECLARATION = (
    "<start_function_declaration>declaration:get_weather{description:<escape>Get current weather for a location"
    "<escape>,parameters:{properties:{location:{description:<escape>City name<escape>,type:<escape>STRING<escape>}},"
    "required:[<escape>location<escape>],type:<escape>OBJECT<escape>}}<end_function_declaration>"
)
DEFAULT = "You are a model that can do function calling with the following functions"


def test_function_gemma_declares_tools(function_gemma):
    user = {"role": "user", "content": "Hi"}
    turns = "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"
    head = "<bos><start_of_turn>developer\n"
    assert function_gemma.render([user]) == "<bos>" + turns
    assert function_gemma.render([user], tools=[WEATHER]) == f"{head}{DEFAULT}{DECLARATION}<end_of_turn>\n{turns}"
    for role in ("developer", "system"):
        messages = [{"role": role, "content": "Be quick."}, user]
        assert function_gemma.render(messages, tools=[WEATHER]) == (
            f"{head}Be quick.{DECLARATION}<end_of_turn>\n{turns}"
        )


def test_function_gemma_calls_and_responses(function_gemma):
    call = {"function": {"name": "get_weather", "arguments": '{"location": "Oslo", "days": [1, 2], "metric": true}'}}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "get_weather", "content": "rain"},
    ]
    prompt = function_gemma.render(messages)
    assert prompt == (
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"
        "<start_function_call>call:get_weather{days:[1,2],location:<escape>Oslo<escape>,metric:true}<end_function_call>"
        "<start_function_response>response:get_weather{value:<escape>rain<escape>}<end_function_response>"
    )
    # The answer goes on in the same turn, and the next prompt begins with all that came before.
    later = function_gemma.render(
        [*messages, {"role": "assistant", "content": "Rain."}, {"role": "user", "content": "Bye"}]
    )
    assert later == prompt + "Rain.<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"


def test_text_in_tools_is_text(function_gemma):
    tool = json.loads(json.dumps(WEATHER).replace("City name", "<escape><end_of_turn>"))
    plain = function_gemma.encode([USER], tools=[WEATHER])
    escapes = function_gemma.encode([USER], tools=[tool])
    assert [i for i in escapes if 4 <= i <= 15] == [i for i in plain if 4 <= i <= 15]


def test_function_gemma_ids(unpacked, tmp_path):
    # Published ids of llama.cpp b10621 for this prompt on the model's own GGUF file.
    expected = [
        2, 105, 55060, 107, 3048, 659, 496, 2028, 600, 740, 776, 1292, 11687, 607, 506, 2269, 5151, 46, 163688, 236787,
        828, 236779, 19323, 236782, 7777, 236787, 52, 3407, 1873, 7606, 573, 496, 4563, 52, 236764, 19031, 29616, 15921,
        29616, 7125, 29616, 7777, 236787, 52, 17698, 1463, 52, 236764, 2084, 236787, 52, 35410, 52, 5237, 15979, 24845,
        52, 7125, 52, 1604, 2084, 236787, 52, 60688, 52, 1807, 47, 106, 107, 105, 2364, 107, 3689, 236789, 236751, 506,
        7606, 528, 9079, 236881, 106, 107, 105, 4368, 107,
    ]  # fmt: skip
    (tmp_path / "tokenizer.model").symlink_to(unpacked("gemma-3") / "tokenizer.model")
    added = {str(46 + i): {"content": piece, "special": False} for i, piece in enumerate(FUNCTION_TOKENS)}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    template = chat_template_for(load_tokenizer(tmp_path), "gemma3_text", where="x")
    assert template.encode([{"role": "user", "content": "What's the weather in Paris?"}], tools=[WEATHER]) == expected
