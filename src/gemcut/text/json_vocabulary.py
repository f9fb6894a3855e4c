"""The vocabulary in a Hugging Face tokenizer.json, as the SentencePiece model that it was made from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gemcut.errors import TokenizerError
from gemcut.text import sentencepiece_proto as proto
from gemcut.text.special_tokens import is_marker

_SPACE = "\u2581"
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
_REPLACE_SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
_PREPEND_SPACE = {"type": "Prepend", "prepend": _SPACE}
# After spaces became U+2581 there is no space left to split at.
_SPLIT_NOTHING = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
_TIED_SCORE = -1e9  # what SentencePiece files hold for pieces of no rank, the runs of spaces in Llama and Mistral
_CHECK_EVERY = 16


def model_from_json(data: Mapping[str, Any], where: str) -> proto.SentencePieceModel:
    """The SentencePiece model behind a tokenizer.json, with which the same text gives the same ids.

    A merge list made from a SentencePiece model holds every pair of pieces that make up a third, ordered by that
    third piece's score; so the scores can be had back from the order.

    Raises:
        TokenizerError: the file is of another kind, or could not have been made from a SentencePiece model.
    """
    bpe = _check_kind(data, where)
    add_dummy_prefix = _dummy_prefix(data, where)
    try:
        pieces, types = _pieces_and_types(data, bpe, where)
    except (AttributeError, KeyError, TypeError) as error:
        raise TokenizerError(
            f"{where}: model.vocab or added_tokens holds values of a wrong kind ({error!r}). Fetch the file again."
        ) from None
    unknown = bpe.get("unk_token")
    if unknown not in bpe["vocab"]:
        raise TokenizerError(f"{where}: unk_token is {unknown!r}, which is no piece. Fetch the file again.")
    unknown_token_id = int(bpe["vocab"][unknown])
    types[unknown_token_id] = proto.UNKNOWN
    return proto.SentencePieceModel(
        pieces=pieces,
        scores=_scores(bpe["merges"], bpe["vocab"], pieces, types, where),
        types=types,
        add_dummy_prefix=add_dummy_prefix,
        remove_extra_whitespaces=False,
        trainer_spec=proto.bpe_trainer_spec(
            byte_fallback=bool(bpe.get("byte_fallback")), unknown_token_id=unknown_token_id
        ),
        normalizer_spec=proto.identity_normalizer_spec(add_dummy_prefix=add_dummy_prefix),
    )


def adds_bos(data: Mapping[str, Any], bos_token: str | None) -> bool:
    """Whether the post-processor puts the beginning-of-text token before a text."""
    processor = data.get("post_processor") or {}
    processors = processor.get("processors", [processor]) if isinstance(processor, Mapping) else []
    return any({"SpecialToken": {"id": bos_token, "type_id": 0}} in entry.get("single", [])[:1] for entry in processors)


def _check_kind(data: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The `model` part, which is a byte-pair encoding without switches that SentencePiece lacks."""
    bpe = data.get("model") if isinstance(data, Mapping) else None
    kind = bpe.get("type") if isinstance(bpe, Mapping) else None
    if not isinstance(bpe, Mapping) or kind != "BPE":
        raise TokenizerError(f'{where}: its model is of type {kind!r}, expected "BPE". Use its tokenizer.model.')
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if bpe.get(key):
            raise TokenizerError(
                f"{where}: model.{key} is {bpe[key]!r}, expected none: SentencePiece has no such thing. "
                "Use the model's tokenizer.model."
            )
    if not isinstance(bpe.get("vocab"), Mapping) or not isinstance(bpe.get("merges"), list):
        raise TokenizerError(f"{where}: model.vocab or model.merges is missing. Fetch the file again.")
    return bpe


def _dummy_prefix(data: Mapping[str, Any], where: str) -> bool:
    """Whether a space is put before a text, out of the normaliser and pre-tokenizer forms that SentencePiece has."""
    normalizer, pre_tokenizer = data.get("normalizer"), data.get("pre_tokenizer")
    steps = normalizer.get("normalizers", [normalizer]) if isinstance(normalizer, Mapping) else []
    if pre_tokenizer in (None, _SPLIT_NOTHING) and steps in ([_REPLACE_SPACE], [_PREPEND_SPACE, _REPLACE_SPACE]):
        return len(steps) == 2
    if not steps and isinstance(pre_tokenizer, Mapping) and pre_tokenizer.get("type") == "Metaspace":
        scheme = pre_tokenizer.get("prepend_scheme", "always")
        if pre_tokenizer.get("replacement") == _SPACE and pre_tokenizer.get("split") is False:
            return scheme != "never"
    raise TokenizerError(
        f"{where}: normalizer {_short(normalizer)} with pre_tokenizer {_short(pre_tokenizer)} is not what "
        "SentencePiece does (spaces to U+2581, at most one space before the text). Use the model's tokenizer.model."
    )


def _pieces_and_types(data: Mapping[str, Any], bpe: Mapping[str, Any], where: str) -> tuple[list[str], np.ndarray]:
    """Pieces by id and their SentencePiece types."""
    added = {token["content"]: token for token in data.get("added_tokens") or []}
    by_id = {token_id: piece for piece, token_id in bpe["vocab"].items()}
    by_id |= {token["id"]: piece for piece, token in added.items()}
    if sorted(by_id) != list(range(len(by_id))):
        raise TokenizerError(f"{where}: its {len(by_id)} ids are not 0 to {len(by_id) - 1}. Fetch the file again.")
    pieces = [by_id[token_id] for token_id in range(len(by_id))]
    types = np.full(len(pieces), proto.NORMAL, np.uint8)
    for token_id, piece in enumerate(pieces):
        if piece in added:
            special = added[piece].get("special") or is_marker(piece)
            types[token_id] = proto.CONTROL if special else proto.USER_DEFINED
        elif _BYTE_PIECE.fullmatch(piece):
            types[token_id] = proto.BYTE
        elif is_marker(piece) and not _num_pairs(piece, bpe["vocab"]):
            types[token_id] = proto.CONTROL  # no merge makes it, so it was no ordinary piece
    if bpe.get("byte_fallback"):
        _restore_tab_byte(pieces, types)
        if int((types == proto.BYTE).sum()) != 256:
            raise TokenizerError(f"{where}: byte_fallback is on without 256 byte pieces. Fetch the file again.")
    _mark_tab_runs(pieces, types)
    return pieces, types


def _restore_tab_byte(pieces: list[str], types: np.ndarray) -> None:
    """Name the byte piece that Hugging Face's conversion of Gemma 1 renamed to the tab itself."""
    if "<0x09>" not in pieces and "<0x08>" in pieces:
        token_id = pieces.index("<0x08>") + 1
        if pieces[token_id] == "\t":
            pieces[token_id], types[token_id] = "<0x09>", proto.BYTE


def _mark_tab_runs(pieces: list[str], types: np.ndarray) -> None:
    """Mark runs of tabs as user-defined where runs of newlines are, as in every Gemma vocabulary.

    Gemma 1's file lists newlines and spaces among the added tokens but leaves the tabs out.
    """
    newlines = pieces.index("\n\n") if "\n\n" in pieces else None
    if newlines is None or types[newlines] != proto.USER_DEFINED:
        return
    runs = [token_id for token_id, piece in enumerate(pieces) if len(piece) > 1 and not piece.strip("\t")]
    types[runs] = proto.USER_DEFINED


def _scores(
    merges: Sequence[Any], vocab: Mapping[str, int], pieces: list[str], types: np.ndarray, where: str
) -> np.ndarray:
    """float32 (V,) scores with which SentencePiece merges in the order of the merge list."""
    normal = {piece: token_id for token_id, piece in enumerate(pieces) if types[token_id] == proto.NORMAL}
    ranked: dict[str, int] = {}  # piece -> number of merges that make it, in the order of the first one
    previous = ""
    for merge in merges:
        try:
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            piece = left + right
        except (TypeError, ValueError):
            raise _not_sentencepiece(where, f"merge {_short(merge)} is not a pair of pieces") from None
        if piece not in normal:
            continue
        if piece != previous and piece in ranked:
            raise _not_sentencepiece(where, f"merges into {piece!r} stand apart")
        ranked[piece] = ranked.get(piece, 0) + 1
        previous = piece
    for piece in list(ranked)[::_CHECK_EVERY]:
        pairs = _num_pairs(piece, vocab)
        if pairs != ranked[piece]:
            raise _not_sentencepiece(where, f"{ranked[piece]} merges make {piece!r}, but {pairs} pairs of pieces could")
    token_ids = np.array([normal[piece] for piece in ranked], np.int64)
    scores = np.zeros(len(pieces), np.float32)
    scores[token_ids] = -np.arange(len(token_ids), dtype=np.float32)
    # Ranked pieces stand in the order of their ids. What comes after them in an order of its own has no rank.
    falls = np.flatnonzero(np.diff(token_ids) < 0) + 1
    if len(falls) == 1:
        scores[token_ids[falls[0] :]] = _TIED_SCORE
    return scores


def _num_pairs(piece: str, vocab: Mapping[str, int]) -> int:
    """Ways to make `piece` out of two others."""
    return sum(piece[:cut] in vocab and piece[cut:] in vocab for cut in range(1, len(piece)))


def _not_sentencepiece(where: str, found: str) -> TokenizerError:
    return TokenizerError(
        f"{where}: {found}, so its merges were not made from a SentencePiece model. Use the model's tokenizer.model."
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."
