"""GGUF vocabularies that are not what they should be."""

from __future__ import annotations

import numpy as np
import pytest

from gemcut.errors import TokenizerError
from gemcut.text import Tokenizer

KEY = "tokenizer.ggml."


def test_multi_space_pieces_are_escaped(make_metadata, gemma):
    metadata = make_metadata("tiny-gemma")
    assert "   " in metadata[KEY + "tokens"]
    tokenizer = Tokenizer.from_gguf(metadata, where="x.gguf")
    assert tokenizer.encode("a   b", add_bos=False) == gemma.encode("a   b", add_bos=False)


def test_arrays_and_bytes_are_read_too(make_metadata, gemma):
    metadata = make_metadata("tiny-gemma")
    metadata[KEY + "tokens"] = [piece.encode() for piece in metadata[KEY + "tokens"]]
    metadata[KEY + "scores"] = np.array(metadata[KEY + "scores"], np.float32)
    metadata[KEY + "token_type"] = np.array(metadata[KEY + "token_type"], np.int32)
    assert Tokenizer.from_gguf(metadata, where="x.gguf").digest() == gemma.digest()


def test_the_chat_template_comes_along(make_metadata):
    metadata = make_metadata("tiny-gemma") | {"tokenizer.chat_template": "{{ bos_token }}"}
    assert Tokenizer.from_gguf(metadata, where="x.gguf").chat_template == "{{ bos_token }}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "gpt2"}, r"x\.gguf: tokenizer\.ggml\.model is 'gpt2', expected \"llama\""),
        ({"model": None}, r"tokenizer\.ggml\.model is None"),
        ({"remove_extra_whitespaces": True}, "rewrites text before it splits it"),
        ({"scores": None}, r"x\.gguf: tokenizer\.ggml\.scores missing"),
        ({"scores": [0.0]}, r"have \[700, 1, 700\] entries, expected equally many"),
        ({"tokens": [], "scores": [], "token_type": []}, r"have \[0, 0, 0\] entries"),
        ({"tokens": [b"\xff"] * 700}, "the vocabulary holds values of a wrong kind"),
        ({"scores": ["x"] * 700}, "the vocabulary holds values of a wrong kind"),
        ({"token_type": [7] * 700}, r"tokenizer\.ggml\.token_type holds 7 to 7, expected 1 to 6"),
        ({"unknown_token_id": 700}, r"unknown_token_id is 700, expected an id below 700"),
        ({"unknown_token_id": "three"}, r"unknown_token_id is 'three', expected an id below 700"),
        ({"scores": 5}, r"tokenizer\.ggml\.scores is no array"),
        ({"bos_token_id": -1}, r"tokenizer\.ggml\.bos_token_id is -1, expected an id below 700"),
        ({"tokens": ["same"] * 700}, "x.gguf: SentencePiece does not accept this vocabulary"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_damaged_vocabulary_is_a_named_error(changes, message, make_metadata):
    metadata = make_metadata("tiny-gemma") | {KEY + name: value for name, value in changes.items()}
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.from_gguf(metadata, where="x.gguf")
