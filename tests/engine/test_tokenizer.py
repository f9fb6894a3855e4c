"""The engine's tokenizer gives the answers of `gemcut.text.Tokenizer`."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemcut.engine import NativeCheckpoint, NativeTokenizer
from gemcut.errors import TokenizerError, UsageError
from gemcut.text import IncrementalDetokenizer, Tokenizer, load_tokenizer

pytestmark = pytest.mark.native
TEXTS = Path(__file__).resolve().parents[1] / "text" / "data"
SAMPLES = ["", " ", "  two  spaces ", "a small house", "naïve café 日本語 🙂", "<start_of_turn>user\nhi<end_of_turn>", "\t\n\r",
           "\ud800 alone", "\ud83d\ude00 a pair"]  # fmt: skip


@pytest.fixture(scope="module", params=["tiny-gemma", "tiny-llama", "legacy-false", "added-tokens"])
def pair(request, write_tiny_model, tmp_path_factory) -> tuple[NativeTokenizer, Tokenizer]:
    """(the engine's, Python's) tokenizer of the same files."""
    folder = write_tiny_model(tmp_path_factory.mktemp("tokenizer") / "model")
    model = "tiny-gemma" if request.param in ("tiny-gemma", "added-tokens") else "tiny-llama"
    (folder / "tokenizer.model").write_bytes((TEXTS / f"{model}.model").read_bytes())
    if request.param == "legacy-false":
        (folder / "tokenizer_config.json").write_text(json.dumps({"legacy": False}))
    if request.param == "added-tokens":
        added = {"700": {"content": "<extra>", "special": True}, "701": {"content": "plain word", "special": False}}
        (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    with NativeCheckpoint(folder) as checkpoint:
        return NativeTokenizer(checkpoint), load_tokenizer(folder)


def test_facts(pair):
    ours, reference = pair
    names = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "unknown_token_id", "add_bos")
    names += ("chat_template", "special_token_ids", "max_text_token_id")
    assert {name: getattr(ours, name) for name in names} == {name: getattr(reference, name) for name in names}
    assert dict(ours.special_tokens) == dict(reference.special_tokens)
    for token_id in range(ours.vocab_size):
        assert ours.piece_of(token_id) == reference.piece_of(token_id)
        assert ours.token_bytes(token_id) == reference.token_bytes(token_id)
        assert ours.bytes_at_start(token_id) == reference.bytes_at_start(token_id)
        assert ours.id_of(reference.piece_of(token_id)) == reference.id_of(reference.piece_of(token_id))
    assert ours.id_of("no such piece") is reference.id_of("no such piece") is None
    for shown in (b"", b" ", b"x", b"\xff"):
        assert ours.stays_at_start(shown) == reference.stays_at_start(shown)


@pytest.mark.parametrize("text", SAMPLES, ids=ascii)
def test_samples(pair, text):
    compare(*pair, text)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text(pair, text):
    compare(*pair, text)


def compare(ours, reference, text):
    for parse_special in (False, True):
        for add_bos in (False, True):
            found = ours.encode(text, parse_special, add_bos)
            assert found == reference.encode(text, parse_special, add_bos)
            assert ours.decode(found) == reference.decode(found)
            assert ours.decode(found, False, continues_prompt=True) == reference.decode(
                found, False, continues_prompt=True
            )
    whole = re.sub("[\ud800-\udfff]", "\ufffd", text)
    assert ours.split_special(text) == reference.split_special(whole)


def test_parts_and_stream(pair):
    ours, reference = pair
    bos = reference.bos_token_id
    parts = [bos, "one text", next(iter(sorted(reference.special_token_ids))), " another", ""]
    assert ours.encode_parts(parts) == reference.encode_parts(parts)
    token_ids = reference.encode("naïve 日本語 🙂 text")
    streams = [IncrementalDetokenizer(tokenizer) for tokenizer in (ours, reference)]
    for token_id in token_ids:
        assert streams[0].push(token_id) == streams[1].push(token_id)
    assert streams[0].finish() == streams[1].finish()


def test_wrong_use_is_named(pair):
    ours, _ = pair
    with pytest.raises(UsageError, match="text is a int, expected str"):
        ours.encode(5)
    for call in (ours.token_bytes, ours.piece_of, lambda token_id: ours.decode([token_id])):
        with pytest.raises(UsageError, match=f"token id {ours.vocab_size} is outside the vocabulary"):
            call(ours.vocab_size)
    with pytest.raises(TokenizerError, match="the engine's tokenizer has no digest"):
        ours.digest()
    with pytest.raises(TypeError, match="a tokenizer of the native engine cannot be pickled"):
        pickle.dumps(ours)
