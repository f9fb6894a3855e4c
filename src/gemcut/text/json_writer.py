"""A SentencePiece model as a Hugging Face tokenizer.json, with which the tokenizers library gives the same ids."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from gemcut.text import sentencepiece_proto as proto
from gemcut.text.tokenizer import Tokenizer

_SPACE = "\u2581"


def tokenizer_to_json(tokenizer: Tokenizer) -> str:
    """The text of the tokenizer.json.

    Source: the tokenizers library's file format; Gemma's and Llama's published files have the same parts.
    """
    model = tokenizer.vocabulary
    vocab = {piece: token_id for token_id, piece in enumerate(model.pieces)}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    prepend = {"type": "Prepend", "prepend": _SPACE}
    steps = {"type": "Sequence", "normalizers": [prepend, replace]} if model.add_dummy_prefix else replace
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if model.add_dummy_prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    data = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens(tokenizer),
        "normalizer": steps,
        "pre_tokenizer": None,
        "post_processor": _post_processor(tokenizer),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None if tokenizer.unknown_token_id is None else model.pieces[tokenizer.unknown_token_id],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": int((model.types == proto.BYTE).sum()) == 256,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": _merges(model, vocab),
        },
    }
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def added_tokens(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """The pieces that no merge makes, as Hugging Face's files list them.

    Those of spaces are looked for after the text's spaces became U+2581; all others in the text as it came.
    """
    model = tokenizer.vocabulary
    chosen = (model.types == proto.CONTROL) | (model.types == proto.UNKNOWN) | (model.types == proto.USER_DEFINED)
    return [
        {
            "id": token_id,
            "content": model.pieces[token_id],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": bool(model.types[token_id] == proto.USER_DEFINED and _SPACE in model.pieces[token_id]),
            "special": token_id in tokenizer.special_token_ids,
        }
        for token_id in np.flatnonzero(chosen).tolist()
    ]


def _post_processor(tokenizer: Tokenizer) -> dict[str, Any] | None:
    """What puts the beginning-of-text token before each text; None where the tokenizer puts none."""
    if not tokenizer.add_bos or tokenizer.bos_token_id is None:
        return None
    bos = tokenizer.piece_of(tokenizer.bos_token_id)

    def text(name: str, number: int) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": bos, "type_id": number}}, {"Sequence": {"id": name, "type_id": number}}]

    return {
        "type": "TemplateProcessing",
        "single": text("A", 0),
        "pair": text("A", 0) + text("B", 1),
        "special_tokens": {bos: {"id": bos, "ids": [tokenizer.bos_token_id], "tokens": [bos]}},
    }


def _merges(model: proto.SentencePieceModel, vocab: dict[str, int]) -> list[list[str]]:
    """Every pair of pieces that makes a third, the third with the highest score first.

    SentencePiece merges the pair whose result scores highest, and of equal ones the leftmost; a merge list does the
    same when its order is that of the scores.
    """
    normal = np.flatnonzero(model.types == proto.NORMAL)
    order = normal[np.argsort(-model.scores[normal], kind="stable")].tolist()
    usable = {model.pieces[token_id] for token_id in normal.tolist()}
    merges = []
    for token_id in order:
        piece = model.pieces[token_id]
        pairs = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        pairs = [(left, right) for left, right in pairs if left in usable and right in usable]
        merges += [[left, right] for left, right in sorted(pairs, key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))]
    return merges
