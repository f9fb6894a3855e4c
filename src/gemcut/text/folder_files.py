"""A tokenizer as the files of a Hugging Face folder."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from gemcut.files import json_bytes
from gemcut.text import sentencepiece_proto as proto
from gemcut.text.json_writer import added_tokens, tokenizer_to_json
from gemcut.text.tokenizer import Tokenizer


def tokenizer_files(tokenizer: Tokenizer, max_tokens: int) -> dict[str, bytes]:
    """Name and content of each file: tokenizer.model, tokenizer.json, tokenizer_config.json, special_tokens_map.json.

    Args:
        tokenizer: The tokenizer; its chat template goes into tokenizer_config.json.
        max_tokens: The model's context, prompt and answer together.
    """
    names = ("bos", "eos", "pad", "unk")
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unknown_token_id)
    special = {f"{name}_token": tokenizer.piece_of(i) for name, i in zip(names, ids, strict=True) if i is not None}
    listed = {str(token.pop("id")): token for token in added_tokens(tokenizer)}
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # the one that takes tokenizer.json as it is
        "add_bos_token": tokenizer.add_bos,
        "add_eos_token": False,
        "added_tokens_decoder": listed,
        **special,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_tokens,
        "spaces_between_special_tokens": False,
    }
    if not tokenizer.vocabulary.add_dummy_prefix:
        config["add_prefix_space"] = False
    if tokenizer.chat_template:
        config["chat_template"] = tokenizer.chat_template
    return {
        "tokenizer.model": proto.write_model(_as_published(tokenizer)),
        "tokenizer.json": tokenizer_to_json(tokenizer).encode("utf-8"),
        "tokenizer_config.json": json_bytes(config),
        "special_tokens_map.json": json_bytes(special),
    }


def _as_published(tokenizer: Tokenizer) -> proto.SentencePieceModel:
    """The vocabulary with its reserved ids named, and with Gemma's markers user-defined, as its publisher has them.

    Only the reserved ones are control pieces there, so that SentencePiece finds the others in a text; Llama and
    Mistral, whose vocabularies have no user-defined pieces, keep theirs out of reach.
    """
    model = tokenizer.vocabulary
    types = model.types.copy()
    reserved = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    if (types == proto.USER_DEFINED).any():
        markers = [i for i in np.flatnonzero(types == proto.CONTROL).tolist() if i not in reserved]
        types[markers] = proto.USER_DEFINED
    spec = proto.with_reserved_pieces(
        model.trainer_spec,
        {
            name: (token_id, tokenizer.piece_of(token_id))
            for name in ("bos", "eos", "pad")
            if (token_id := getattr(tokenizer, f"{name}_token_id")) is not None
        },
    )
    return dataclasses.replace(model, types=types, trainer_spec=spec)
