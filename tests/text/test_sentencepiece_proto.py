"""The protobuf wire format of SentencePiece models."""

from __future__ import annotations

import time

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from gemcut.errors import TokenizerError
from gemcut.text import Tokenizer
from gemcut.text import sentencepiece_proto as proto

NAMES = ["tiny-gemma", "tiny-llama"]


@pytest.mark.parametrize("name", NAMES)
def test_reads_what_the_library_reads(name, model_bytes, original):
    model, sp = proto.read_model(model_bytes(name), name), original(name)
    assert model.pieces == [sp.id_to_piece(i) for i in range(len(sp))]
    assert model.scores.tolist() == [np.float32(sp.get_score(i)) for i in range(len(sp))]
    assert [kind == proto.BYTE for kind in model.types] == [sp.is_byte(i) for i in range(len(sp))]
    assert [kind == proto.CONTROL for kind in model.types] == [sp.is_control(i) for i in range(len(sp))]
    assert proto.reserved_ids(model) == {
        "unk": sp.unk_id(), "bos": sp.bos_id(), "eos": sp.eos_id(), "pad": sp.pad_id()
    }  # fmt: skip
    assert (model.add_dummy_prefix, model.remove_extra_whitespaces) == (name == "tiny-llama", False)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_reads_the_same(name, model_bytes):
    model = proto.read_model(model_bytes(name), name)
    again = proto.read_model(proto.write_model(model), name)
    assert again.pieces == model.pieces
    assert again.scores.tobytes() == model.scores.tobytes()
    assert again.types.tolist() == model.types.tolist()
    assert (again.trainer_spec, again.normalizer_spec) == (model.trainer_spec, model.normalizer_spec)


def test_long_pieces_and_fields_in_any_order(model_bytes):
    model = proto.read_model(model_bytes("tiny-gemma"), "x")
    model.pieces[4] = "m" * 300
    data = proto.write_model(model) + bytes([0x0A, 9, 0x18, 1, 0x15, 0, 0, 0x80, 0x3F, 0x0A, 0])
    again = proto.read_model(data, "x")
    assert again.pieces[4] == "m" * 300
    assert (again.pieces[-1], again.scores[-1], again.types[-1]) == ("", 1.0, proto.NORMAL)


def test_the_dummy_prefix_can_be_switched(model_bytes):
    model = proto.with_dummy_prefix(proto.read_model(model_bytes("tiny-llama"), "x"), False)
    sp = sentencepiece.SentencePieceProcessor(model_proto=proto.write_model(model))
    assert sp.id_to_piece(sp.encode("the"))[0] != "\u2581the"
    assert not proto.read_model(proto.write_model(model), "x").add_dummy_prefix


@pytest.mark.parametrize("name", NAMES)
def test_every_cut_is_a_named_error(name, model_bytes):
    data = model_bytes(name)
    for size in [*range(1, 200, 7), *range(1000, len(data) - 200, 997)]:
        with pytest.raises(
            TokenizerError, match=r"x\.model: \d+ bytes that are not a whole|SentencePiece does not accept"
        ):
            Tokenizer.from_sentencepiece(data[:size], where="x.model")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"not a model at all", "is not a whole|are not a whole"),
        (b"\x0a\xff\xff\xff\xff\x0f", "the field at byte 0 ends at"),
        (b"\x0a" + b"\xff" * 12, "does not end"),
        (b"\x0b\x00", "byte 0 starts no known field"),
        (b"\x0a\x09\x0a\x00\x15\0\0\0\0\x18\x09", "piece '' has type 9"),
    ],
    ids=["text", "huge length", "endless number", "group", "unknown type"],
)
def test_garbage_is_a_named_error(data, found):
    with pytest.raises(TokenizerError, match=found):
        proto.read_model(data, "tokenizer.model")


def test_a_model_without_pieces_is_an_error():
    with pytest.raises(TokenizerError, match=r"tokenizer\.model: holds no pieces, expected a SentencePiece model"):
        proto.read_model(b"", "tokenizer.model")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data):
    try:
        model = proto.read_model(data, "x")
    except TokenizerError:
        return
    assert len(model.pieces) == len(model.scores) == len(model.types) > 0


def test_a_quarter_of_a_million_pieces_take_well_under_a_second():
    count = 262_144
    pieces = ["<unk>", *(f"piece{i}" for i in range(count - 1))]
    model = proto.SentencePieceModel(
        pieces=pieces,
        scores=-np.arange(count, dtype=np.float32),
        types=np.array([proto.UNKNOWN] + [proto.NORMAL] * (count - 1), np.uint8),
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        trainer_spec=proto.bpe_trainer_spec(byte_fallback=False, unknown_token_id=0),
        normalizer_spec=proto.identity_normalizer_spec(add_dummy_prefix=False),
    )
    begin = time.process_time()
    sp = sentencepiece.SentencePieceProcessor(model_proto=proto.write_model(model))
    assert time.process_time() - begin < 2  # 0.2 s on two cores; the bound only catches a quadratic loop
    assert (len(sp), sp.unk_id()) == (count, 0)
