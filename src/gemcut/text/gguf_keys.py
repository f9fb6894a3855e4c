"""A tokenizer as the `tokenizer.` keys of a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gemcut.text import sentencepiece_proto as proto
from gemcut.text.gguf_vocabulary import model_from_gguf
from gemcut.text.tokenizer import Tokenizer

_CONTROL_SCORE = -1000.0  # llama.cpp's converter gives it to every piece that no merge makes, bytes excepted
_PADDING = "[PAD{}]"


def tokenizer_to_gguf(tokenizer: Tokenizer, num_rows: int) -> dict[str, Any]:
    """The metadata keys with which llama.cpp, and `Tokenizer.from_gguf`, give the same ids.

    Args:
        tokenizer: The tokenizer.
        num_rows: Rows of the embedding matrix. GGUF wants a token for each: missing ones are unused padding; control
            tokens above the rows, which no text becomes, are left out.

    Source: GGUF specification, section "Tokenizer"; llama.cpp's conversion of SentencePiece vocabularies.
    """
    model = tokenizer.vocabulary
    missing = range(len(model.pieces), num_rows)
    pieces = [*model.pieces[:num_rows], *(_PADDING.format(number) for number in missing)]
    types = np.array([*model.types[:num_rows], *(proto.UNUSED for _ in missing)], np.int32)
    scores = np.array([*model.scores[:num_rows], *(_CONTROL_SCORE for _ in missing)], np.float32)
    scores[(types == proto.CONTROL) | (types == proto.USER_DEFINED) | (types == proto.UNKNOWN)] = _CONTROL_SCORE
    for token_id in np.flatnonzero(types == proto.USER_DEFINED).tolist():
        pieces[token_id] = pieces[token_id].replace("\u2581", " ")
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "unknown_token_id": tokenizer.unknown_token_id,
        "padding_token_id": tokenizer.pad_token_id,
    }
    keys: dict[str, Any] = {"model": "llama", "pre": "default", "tokens": pieces, "scores": scores, "token_type": types}
    keys |= {name: token_id for name, token_id in ids.items() if token_id is not None}
    keys |= {"add_bos_token": tokenizer.add_bos, "add_eos_token": False, "add_space_prefix": model.add_dummy_prefix}
    metadata = {f"tokenizer.ggml.{name}": value for name, value in keys.items()}
    if tokenizer.chat_template:
        metadata["tokenizer.chat_template"] = tokenizer.chat_template
    return metadata


def tokenizer_from_keys(metadata: Mapping[str, Any], where: str) -> Tokenizer:
    """The tokenizer of a GGUF file without the pieces that only fill up the embedding's rows.

    Raises:
        TokenizerError: the vocabulary is of another kind, incomplete or contradictory.
    """
    model, settings = model_from_gguf(metadata, where)
    size = len(model.pieces)
    while size and model.types[size - 1] == proto.UNUSED and model.pieces[size - 1] == _PADDING.format(size - 1):
        size -= 1
    return Tokenizer(proto.resized(model, size), settings, where)
