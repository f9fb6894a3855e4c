"""Tokenizer files of ours, read by transformers, by SentencePiece and by our own reader."""

from __future__ import annotations

import json

import pytest
import sentencepiece
import transformers

from gemcut.text import Tokenizer, TokenizerSettings, load_tokenizer, tokenizer_files

TEMPLATE = "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message.content }}{% endfor %}"
TEXTS = ["Hello  you\n\n", " a", "", "<start_of_turn>user\n", "漢字 0123", "\t\t\t"]


@pytest.fixture(params=["tiny-gemma", "tiny-llama"])
def ours(request, tokenizers):
    return tokenizers[request.param, "gguf"]


@pytest.fixture
def folder(ours, tmp_path):
    for name, data in tokenizer_files(ours, 128).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_transformers_gives_our_ids(ours, folder, random_texts):
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in [*TEXTS, *random_texts(50, 5)]:
        assert theirs(text)["input_ids"] == ours.encode(text, parse_special=True), text
    assert theirs.model_max_length == 128
    ids = (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id, theirs.unk_token_id)
    assert ids == (ours.bos_token_id, ours.eos_token_id, ours.pad_token_id, ours.unknown_token_id)


@pytest.mark.parametrize("form", ["tokenizer.model", "tokenizer.json"])
def test_our_reader_gives_the_same_tokenizer(form, ours, folder):
    assert load_tokenizer([folder / form, folder / "tokenizer_config.json"]).digest() == ours.digest()
    assert load_tokenizer(folder).digest() == ours.digest()


def test_sentencepiece_is_the_original(ours, folder, original, request):
    name = request.node.callspec.params["ours"]
    theirs, first = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")), original(name)
    for text in TEXTS:
        assert theirs.encode(text) == first.encode(text)
    for reserved in ("bos_id", "eos_id", "unk_id"):
        assert getattr(theirs, reserved)() == getattr(first, reserved)()
    for token_id in range(len(first)):
        assert theirs.id_to_piece(token_id) == first.id_to_piece(token_id)
        assert theirs.is_control(token_id) == first.is_control(token_id)


def test_chat_template_goes_into_the_config(model_bytes, tmp_path):
    settings = TokenizerSettings(chat_template=TEMPLATE)
    tokenizer = Tokenizer.from_sentencepiece(model_bytes("tiny-gemma"), where="x", settings=settings)
    files = tokenizer_files(tokenizer, 128)
    assert json.loads(files["tokenizer_config.json"])["chat_template"] == TEMPLATE
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": "Hi"}]
    assert theirs.apply_chat_template(messages, tokenize=False) == "<bos><start_of_turn>Hi"
    assert load_tokenizer(tmp_path).chat_template == TEMPLATE


def test_eos_that_another_piece_plays_is_kept(model_bytes, tmp_path):
    settings = TokenizerSettings(eos_token="<end_of_turn>")
    tokenizer = Tokenizer.from_sentencepiece(model_bytes("tiny-gemma"), where="x", settings=settings)
    for name, data in tokenizer_files(tokenizer, 128).items():
        (tmp_path / name).write_bytes(data)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path).eos_token == "<end_of_turn>"
    assert load_tokenizer(tmp_path / "tokenizer.model").eos_token_id == tokenizer.eos_token_id
    assert json.loads((tmp_path / "special_tokens_map.json").read_text())["eos_token"] == "<end_of_turn>"
