"""tokenizer.json files of ours, read by the tokenizers library and by our own reader."""

from __future__ import annotations

import json

import pytest
import tokenizers as library

from gemcut.text import Tokenizer, TokenizerSettings, load_tokenizer
from gemcut.text.json_writer import tokenizer_to_json

MARKED = [
    "<start_of_turn>user\n  two  spaces\n\n\n<end_of_turn>",
    "a<bos>b<eos>",
    "a<s>b</s> c",
    "<unused1> x",
    "<b>y</b>",
]


@pytest.mark.parametrize("name", ["tiny-gemma", "tiny-llama"])
def test_the_library_gives_our_ids(name, tokenizers, random_texts):
    ours = tokenizers[name, "model"]
    theirs = library.Tokenizer.from_str(tokenizer_to_json(ours))
    for text in [*random_texts(400, 3), *MARKED]:
        ids = ours.encode(text, parse_special=True)
        assert theirs.encode(text).ids == ids, text
        assert theirs.decode(ids) == ours.decode(ids), text


@pytest.mark.parametrize("name", ["tiny-gemma", "tiny-llama"])
def test_our_reader_gives_the_same_tokenizer(name, tokenizers):
    ours = tokenizers[name, "model"]
    back = Tokenizer.from_json(json.loads(tokenizer_to_json(ours)), where="tokenizer.json")
    assert back.digest() == ours.digest()


def test_the_library_gives_our_ids_with_gemma_3s_vocabulary(unpacked, real_texts, random_texts):
    folder = unpacked("gemma-3")
    ours = load_tokenizer([folder / "tokenizer.model", folder / "tokenizer_config.json"])
    theirs = library.Tokenizer.from_str(tokenizer_to_json(ours))
    for text in [*real_texts[:200], *random_texts(300, 4), *MARKED]:
        assert theirs.encode(text).ids == ours.encode(text, parse_special=True), text


def test_merges_are_mistrals_own(unpacked):
    folder = unpacked("mistral-v0.1")
    published = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    ours = json.loads(tokenizer_to_json(load_tokenizer([folder / "tokenizer.model"])))["model"]
    assert ours["vocab"] == published["vocab"]
    assert [" ".join(merge) for merge in ours["merges"]] == published["merges"]


def test_no_bos_means_no_post_processor(model_bytes):
    settings = TokenizerSettings(add_bos=False)
    ours = Tokenizer.from_sentencepiece(model_bytes("tiny-gemma"), where="x", settings=settings)
    assert json.loads(tokenizer_to_json(ours))["post_processor"] is None
