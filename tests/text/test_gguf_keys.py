"""Tokenizers written into GGUF metadata and read back."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gemcut.text import Tokenizer, TokenizerSettings, tokenizer_from_keys, tokenizer_to_gguf

KEY = "tokenizer.ggml."
NAMES = ["tiny-gemma", "tiny-llama"]


@pytest.mark.parametrize("name", NAMES)
def test_the_keys_are_those_of_llama_cpps_converter(name, tokenizers, make_metadata):
    tokenizer = tokenizers[name, "model"]
    keys = tokenizer_to_gguf(tokenizer, tokenizer.vocab_size)
    wanted = make_metadata(name)
    assert keys[KEY + "tokens"] == wanted[KEY + "tokens"]
    types, wanted_types = keys[KEY + "token_type"], np.array(wanted[KEY + "token_type"])
    others = {tokenizer.piece_of(i) for i in np.flatnonzero(types != wanted_types).tolist()}
    assert others <= {"<unk>", "[multimodal]"}  # ours takes every marker for a control token
    normal = types == 1
    assert np.array_equal(keys[KEY + "scores"][normal], np.array(wanted[KEY + "scores"], np.float32)[normal])
    for key in wanted.keys() - {KEY + "tokens", KEY + "token_type", KEY + "scores"}:
        assert keys[key] == wanted[key], key


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["model", "gguf", "json"])
def test_the_same_ids_come_back(name, form, tokenizers, random_texts):
    tokenizer = tokenizers[name, form]
    keys = tokenizer_to_gguf(tokenizer, tokenizer.vocab_size)
    back = Tokenizer.from_gguf(keys, where="x.gguf")
    assert back.digest() == tokenizer.digest()
    assert [back.encode(text) for text in random_texts(50, 1)] == [
        tokenizer.encode(text) for text in random_texts(50, 1)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_rows_without_a_token_are_filled_and_taken_off(name, tokenizers):
    tokenizer = tokenizers[name, "model"]
    size = tokenizer.vocab_size
    keys = tokenizer_to_gguf(tokenizer, size + 3)
    assert keys[KEY + "tokens"][size:] == [f"[PAD{size}]", f"[PAD{size + 1}]", f"[PAD{size + 2}]"]
    assert keys[KEY + "token_type"][size:].tolist() == [5, 5, 5]
    assert len(keys[KEY + "scores"]) == size + 3
    back = tokenizer_from_keys(keys, "x.gguf")
    assert (back.vocab_size, back.digest()) == (size, tokenizer.digest())


def test_control_tokens_above_the_rows_are_left_out(model_bytes):
    settings = TokenizerSettings(added_tokens=((700, "<image_soft_token>", True),))
    tokenizer = Tokenizer.from_sentencepiece(model_bytes("tiny-gemma"), where="x", settings=settings)
    assert tokenizer.vocab_size == 701
    assert len(tokenizer_to_gguf(tokenizer, 700)[KEY + "tokens"]) == 700


def test_the_chat_template_and_bos_come_along(model_bytes):
    settings = TokenizerSettings(add_bos=False, chat_template="{{ bos_token }}")
    tokenizer = Tokenizer.from_sentencepiece(model_bytes("tiny-gemma"), where="x", settings=settings)
    back = Tokenizer.from_gguf(tokenizer_to_gguf(tokenizer, 700), where="x.gguf")
    assert (back.add_bos, back.chat_template) == (False, "{{ bos_token }}")
    without = dataclasses.replace(settings, chat_template=None)
    tokenizer = Tokenizer.from_sentencepiece(model_bytes("tiny-gemma"), where="x", settings=without)
    assert "tokenizer.chat_template" not in tokenizer_to_gguf(tokenizer, 700)


def test_the_starters_vocabulary_is_written_as_it_was(starter_path):
    from gemcut.checkpoint.gguf_file import read_gguf

    metadata = read_gguf(starter_path)[0]
    keys = tokenizer_to_gguf(tokenizer_from_keys(metadata, "starter"), 262_144)
    assert keys[KEY + "tokens"] == metadata[KEY + "tokens"]
    assert np.array_equal(keys[KEY + "scores"], np.array(metadata[KEY + "scores"], np.float32))
    # Ours takes every marker for a control token, llama.cpp's converter missed a few; and <unk> has its own type.
    changed = np.flatnonzero(keys[KEY + "token_type"] != np.array(metadata[KEY + "token_type"]))
    assert [metadata[KEY + "tokens"][i] for i in changed.tolist()] == [
        "<unk>",
        "[multimodal]",
        "<start_of_image>",
        "<end_of_image>",
    ]
