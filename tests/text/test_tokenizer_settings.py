"""What the files beside a vocabulary change."""

from __future__ import annotations

import pytest

from gemcut.errors import TokenizerError
from gemcut.text import Tokenizer
from gemcut.text.tokenizer_settings import settings_from_config


def _tokenizer(model_bytes, config):
    settings = settings_from_config(config, "tokenizer_config.json")
    return Tokenizer.from_sentencepiece(model_bytes("tiny-gemma"), where="tokenizer.model", settings=settings)


def test_named_tokens_choose_the_ids(model_bytes):
    config = {"eos_token": "<end_of_turn>", "pad_token": {"content": "<eos>", "special": True}, "bos_token": None}
    tokenizer = _tokenizer(model_bytes, config)
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert ids == (2, tokenizer.id_of("<end_of_turn>"), 1)


def test_reserved_pieces_are_renamed_and_new_ones_appended(model_bytes, gemma):
    added = {
        "6": {"content": "<start_function_call>", "special": False},
        "7": {"content": "<unused0>", "special": False},
        "700": {"content": "<image_soft_token>", "special": True},
        "701": {"content": "\u00a7\u00a7", "special": False},
    }
    tokenizer = _tokenizer(model_bytes, {"added_tokens_decoder": added})
    assert tokenizer.vocab_size == 702
    text = "<start_function_call><unused0><image_soft_token>\u00a7\u00a7"
    assert tokenizer.encode(text, parse_special=True, add_bos=False) == [6, 7, 700, 701]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("the house") == gemma.encode("the house")


@pytest.mark.parametrize(("template", "expected"), [
    ("{{ 1 }}", "{{ 1 }}"),
    ([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}], "d"),
    (None, None),
], ids=["text", "named", "none"])  # fmt: skip
def test_the_template_is_found(template, expected, model_bytes):
    assert _tokenizer(model_bytes, {"chat_template": template}).chat_template == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"add_bos_token": "yes"}, "tokenizer_config.json: add_bos_token is 'yes', expected true or false"),
        ({"bos_token": 2}, "tokenizer_config.json: a token is 2, expected text or an object"),
        ({"eos_token": {"id": 2}}, r"a token is \{'id': 2\}, expected text or an object"),
        ({"chat_template": 5}, "chat_template is a int, expected text"),
        ({"added_tokens_decoder": {"x": "y"}}, "added_tokens_decoder is not a mapping from token ids to tokens"),
        ({"added_tokens_decoder": [1]}, "added_tokens_decoder is not a mapping from token ids to tokens"),
        ({"added_tokens_decoder": {"900": "<x>"}}, "added token '<x>' has id 900, expected at most 700, the next free"),
        ({"added_tokens_decoder": {"-1": "<x>"}}, "added token '<x>' has id -1, expected at most 700"),
        ({"added_tokens_decoder": {"699": "<x>"}}, "added token '<x>' has id 699, which is '.' in the vocabulary"),
        ({"added_tokens_decoder": {"6": "<bos>"}}, "SentencePiece does not accept this vocabulary"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_of_a_wrong_kind_are_named_errors(config, message, model_bytes):
    with pytest.raises(TokenizerError, match=message):
        _tokenizer(model_bytes, config)
