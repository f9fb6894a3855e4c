"""Streamed text is the whole text, in whole characters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemcut.errors import UsageError
from gemcut.text import IncrementalDetokenizer


@settings(max_examples=400, deadline=None, derandomize=True)
@given(data=st.data(), skip_special=st.booleans(), continues_prompt=st.booleans())
def test_pieces_add_up_to_decode(tokenizers, data, skip_special, continues_prompt):
    tokenizer = tokenizers[data.draw(st.sampled_from(sorted(tokenizers)))]
    any_id = st.integers(0, tokenizer.vocab_size - 1)
    byte_id = st.integers(tokenizer.id_of("<0x00>") + 0x80, tokenizer.id_of("<0xFF>"))
    ids = data.draw(st.lists(st.one_of(any_id, byte_id), max_size=30))
    detokenizer = IncrementalDetokenizer(tokenizer, skip_special=skip_special, continues_prompt=continues_prompt)
    pieces = [*map(detokenizer.push, ids), detokenizer.finish()]
    expected = tokenizer.decode(ids, skip_special, continues_prompt=continues_prompt)
    assert "".join(pieces) == expected


@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=st.text(max_size=20))
def test_no_character_comes_in_halves(gemma, text):
    detokenizer = IncrementalDetokenizer(gemma)
    pieces = [detokenizer.push(token_id) for token_id in gemma.encode(text.replace("\ufffd", "?"))]
    assert not any("\ufffd" in piece for piece in pieces)
    assert detokenizer.finish() == ""


def test_bytes_are_held_back_until_the_character_is_whole(gemma):
    detokenizer = IncrementalDetokenizer(gemma)
    ids = [gemma.id_of(f"<0x{byte:02X}>") for byte in "🫠".encode()]
    assert [detokenizer.push(token_id) for token_id in ids] == ["", "", "", "🫠"]


def test_bytes_that_cannot_become_a_character_come_at_once(gemma):
    detokenizer = IncrementalDetokenizer(gemma)
    lead = gemma.id_of("<0xE2>")
    assert [detokenizer.push(lead), detokenizer.push(gemma.id_of("e"))] == ["", "\ufffde"]
    assert [detokenizer.push(lead), detokenizer.finish()] == ["", "\ufffd"]


def test_control_tokens_within_a_character_are_skipped(gemma):
    detokenizer = IncrementalDetokenizer(gemma)
    first, second = (gemma.id_of(f"<0x{byte:02X}>") for byte in "ñ".encode())
    assert [detokenizer.push(i) for i in (first, gemma.eos_token_id, second)] == ["", "", "ñ"]


@pytest.mark.parametrize(("continues_prompt", "expected"), [(False, "the"), (True, " the")], ids=["start", "continues"])
def test_the_space_before_a_text_is_not_shown(continues_prompt, expected, llama):
    detokenizer = IncrementalDetokenizer(llama, continues_prompt=continues_prompt)
    assert detokenizer.push(llama.bos_token_id) + detokenizer.push(llama.id_of("\u2581the")) == expected
    assert detokenizer.push(llama.id_of("\u2581the")) == " the"


def test_an_id_outside_the_vocabulary_is_an_error(gemma):
    with pytest.raises(UsageError, match="token id 700 is outside the vocabulary"):
        IncrementalDetokenizer(gemma).push(700)
