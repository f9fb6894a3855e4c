"""tokenizer.json files: which are SentencePiece models in other words, and which are not."""

from __future__ import annotations

import copy

import pytest

from gemcut.errors import TokenizerError
from gemcut.text import Tokenizer

SPACE = "\u2581"
METASPACE = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": False}
SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def _with(data, path, value):
    """A copy of `data` in which the entry at the dotted path is `value`, or is gone for ...."""
    data = copy.deepcopy(data)
    *parents, last = path.split(".")
    target = data
    for name in parents:
        target = target[name]
    target.pop(last, None)
    if value is not ...:
        target[last] = value
    return data


def test_merges_may_be_texts(make_tokenizer_json, llama):
    data = make_tokenizer_json("tiny-llama")
    data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
    assert Tokenizer.from_json(data, where="tokenizer.json").digest() == llama.digest()


def test_the_tab_byte_is_restored(make_tokenizer_json, gemma):
    data = make_tokenizer_json("tiny-gemma")
    vocab = data["model"]["vocab"]
    data["model"]["vocab"] = {("\t" if piece == "<0x09>" else piece): i for piece, i in vocab.items()}
    tokenizer = Tokenizer.from_json(data, where="tokenizer.json")
    assert tokenizer.encode("a\tb") == gemma.encode("a\tb")
    assert tokenizer.digest() == gemma.digest()


@pytest.mark.parametrize(
    ("normalizer", "pre_tokenizer", "name"),
    [
        (None, METASPACE, "tiny-llama"),
        (None, METASPACE | {"prepend_scheme": "never"}, "tiny-gemma"),
        ({"type": "Replace", "pattern": {"String": " "}, "content": SPACE}, SPLIT, "tiny-gemma"),
    ],
    ids=["metaspace first", "metaspace never", "gemma 3"],
)
def test_known_ways_to_write_the_normaliser(normalizer, pre_tokenizer, name, make_tokenizer_json, tokenizers):
    data = make_tokenizer_json(name) | {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer}
    assert Tokenizer.from_json(data, where="x").digest() == tokenizers[name, "model"].digest()


@pytest.mark.parametrize("pre_tokenizer", [{"type": "ByteLevel"}, {"type": "Whitespace"}, METASPACE | {"split": True}])
@pytest.mark.parametrize("normalizer", [None, {"type": "NFKC"}, {"type": "Lowercase"}], ids=str)
def test_an_unknown_normaliser_or_pre_tokenizer_is_an_error(normalizer, pre_tokenizer, make_tokenizer_json):
    data = make_tokenizer_json("tiny-llama") | {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer}
    with pytest.raises(TokenizerError, match=r"t\.json: normalizer .* with pre_tokenizer .* is not what SentencePiece"):
        Tokenizer.from_json(data, where="t.json")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model", ..., r't\.json: its model is of type None, expected "BPE"'),
        ("model.type", "Unigram", r"its model is of type 'Unigram', expected \"BPE\""),
        ("model.dropout", 0.1, r"model\.dropout is 0\.1, expected none"),
        ("model.ignore_merges", True, r"model\.ignore_merges is True, expected none"),
        ("model.end_of_word_suffix", "</w>", r"model\.end_of_word_suffix is '</w>', expected none"),
        ("model.merges", ..., r"model\.vocab or model\.merges is missing"),
        ("model.unk_token", None, "unk_token is None, which is no piece"),
        ("model.vocab.the", 99_999, r"its 701 ids are not 0 to 700"),
        ("model.vocab", {"a": "x"}, r"model\.vocab or added_tokens holds values of a wrong kind"),
        ("added_tokens", [{"id": 3}], r"model\.vocab or added_tokens holds values of a wrong kind \(KeyError"),
        ("model.vocab.<0x00>", ..., r"its 699 ids are not 0 to 698"),
        ("model.merges", [["a"]], r"merge \['a'\] is not a pair of pieces"),
        ("model.merges", ["a b c"], r"merge 'a b c' is not a pair of pieces"),
    ],
)
def test_a_file_of_another_kind_is_an_error(path, value, message, make_tokenizer_json):
    data = _with(make_tokenizer_json("tiny-gemma"), path, value)
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.from_json(data, where="t.json")


def test_missing_byte_pieces_are_an_error(make_tokenizer_json):
    data = make_tokenizer_json("tiny-llama")
    vocab = data["model"]["vocab"]
    data["model"]["vocab"] = {("\u00a7" if piece == "<0x41>" else piece): i for piece, i in vocab.items()}
    with pytest.raises(TokenizerError, match="byte_fallback is on without 256 byte pieces"):
        Tokenizer.from_json(data, where="t.json")


def test_merges_of_another_trainer_are_an_error(make_tokenizer_json):
    # A vocabulary trained by Hugging Face's library has one merge for a piece, SentencePiece allows every pair.
    data = make_tokenizer_json("tiny-llama")
    seen, single = set(), []
    for left, right in data["model"]["merges"]:
        if left + right not in seen:
            seen.add(left + right)
            single.append([left, right])
    data["model"]["merges"] = single
    with pytest.raises(
        TokenizerError, match=r"1 merges make '.+', but \d pairs of pieces could, so its merges were not"
    ):
        Tokenizer.from_json(data, where="t.json")


def test_merges_of_one_piece_in_two_places_are_an_error(make_tokenizer_json):
    data = make_tokenizer_json("tiny-llama")
    merges = data["model"]["merges"]
    merges.append(merges[0])
    with pytest.raises(TokenizerError, match=r"t\.json: merges into '.+' stand apart"):
        Tokenizer.from_json(data, where="t.json")


def test_bos_is_added_if_the_post_processor_or_the_config_says_so(make_tokenizer_json):
    data = make_tokenizer_json("tiny-gemma")
    without = data | {"post_processor": None}
    assert Tokenizer.from_json(data, where="x").add_bos
    assert not Tokenizer.from_json(without, where="x").add_bos
    assert Tokenizer.from_json(without, config={"add_bos_token": True}, where="x").add_bos
    assert not Tokenizer.from_json(data, config={"add_bos_token": False}, where="x").add_bos
