"""The vocabulary in a GGUF file's metadata, as a SentencePiece model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gemcut.errors import TokenizerError
from gemcut.text import sentencepiece_proto as proto
from gemcut.text.tokenizer_settings import TokenizerSettings


def model_from_gguf(metadata: Mapping[str, Any], where: str) -> tuple[proto.SentencePieceModel, TokenizerSettings]:
    """The SentencePiece model and the settings under the `tokenizer.` keys.

    Args:
        metadata: Key to value, arrays as lists or numpy arrays.
        where: File name for messages.

    Raises:
        TokenizerError: the vocabulary is of another kind, incomplete or contradictory.

    Source: GGUF specification, section "Tokenizer"; defaults as in llama.cpp's src/llama-vocab.cpp for "llama".
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind != "llama":
        raise TokenizerError(
            f'{where}: tokenizer.ggml.model is {kind!r}, expected "llama" (SentencePiece byte-pair encoding). '
            "Gemma 1 to 3, Llama 2 and Mistral files have it."
        )
    if metadata.get("tokenizer.ggml.remove_extra_whitespaces") or metadata.get("tokenizer.ggml.precompiled_charsmap"):
        raise TokenizerError(f"{where}: the tokenizer rewrites text before it splits it, which Gemcut does not do.")
    pieces, scores, types = _columns(metadata, where)
    unknown_token_id = _token_id(metadata, "unknown_token_id", 0, len(pieces), where) or 0
    # SentencePiece wants exactly one unknown piece; llama.cpp's converter stores it as a control token.
    types[types == proto.UNKNOWN] = proto.CONTROL
    types[unknown_token_id] = proto.UNKNOWN
    # Its user-defined pieces have their spaces unescaped.
    for token_id in np.flatnonzero(types == proto.USER_DEFINED).tolist():
        pieces[token_id] = pieces[token_id].replace(" ", "\u2581")
    add_dummy_prefix = bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
    byte_fallback = int((types == proto.BYTE).sum()) == 256
    model = proto.SentencePieceModel(
        pieces=pieces,
        scores=scores,
        types=types,
        add_dummy_prefix=add_dummy_prefix,
        remove_extra_whitespaces=False,
        trainer_spec=proto.bpe_trainer_spec(byte_fallback=byte_fallback, unknown_token_id=unknown_token_id),
        normalizer_spec=proto.identity_normalizer_spec(add_dummy_prefix=add_dummy_prefix),
    )
    return model, _settings(metadata, pieces, where)


def _columns(metadata: Mapping[str, Any], where: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Pieces, scores and types, of one length."""
    keys = [f"tokenizer.ggml.{name}" for name in ("tokens", "scores", "token_type")]
    missing = [key for key in keys if metadata.get(key) is None]
    if missing:
        raise TokenizerError(f"{where}: {', '.join(missing)} missing, expected with a SentencePiece vocabulary.")
    wrong = [key for key in keys if not isinstance(metadata[key], Sequence | np.ndarray)]
    if wrong:
        raise TokenizerError(f"{where}: {', '.join(wrong)} is no array, expected one entry for each piece.")
    lengths = [len(metadata[key]) for key in keys]
    if len(set(lengths)) > 1 or not lengths[0]:
        raise TokenizerError(f"{where}: {', '.join(keys)} have {lengths} entries, expected equally many, above 0.")
    try:
        pieces = [piece if isinstance(piece, str) else bytes(piece).decode("utf-8") for piece in metadata[keys[0]]]
        scores, types = np.array(metadata[keys[1]], np.float32), np.array(metadata[keys[2]], np.int64)
    except (TypeError, ValueError) as error:
        raise TokenizerError(f"{where}: the vocabulary holds values of a wrong kind ({error}).") from None
    if types.min() < proto.NORMAL or types.max() > proto.BYTE:
        raise TokenizerError(f"{where}: {keys[2]} holds {types.min()} to {types.max()}, expected 1 to 6.")
    return pieces, scores, types.astype(np.uint8)


def _settings(metadata: Mapping[str, Any], pieces: list[str], where: str) -> TokenizerSettings:
    """Special tokens, BOS and template as the metadata say."""

    def piece_of(name: str, default: int | None) -> str | None:
        token_id = _token_id(metadata, name, default, len(pieces), where)
        return None if token_id is None else pieces[token_id]

    template = metadata.get("tokenizer.chat_template")
    return TokenizerSettings(
        add_bos=bool(metadata.get("tokenizer.ggml.add_bos_token", True)),
        bos_token=piece_of("bos_token_id", 1),
        eos_token=piece_of("eos_token_id", 2),
        pad_token=piece_of("padding_token_id", None),
        chat_template=template if isinstance(template, str) else None,
    )


def _token_id(metadata: Mapping[str, Any], name: str, default: int | None, num_pieces: int, where: str) -> int | None:
    """The id under `tokenizer.ggml.` and `name`; None if it is not there and has no default."""
    token_id = metadata.get(f"tokenizer.ggml.{name}", default)
    if token_id is None:
        return None
    if not isinstance(token_id, int | np.integer) or not 0 <= token_id < num_pieces:
        raise TokenizerError(f"{where}: tokenizer.ggml.{name} is {token_id!r}, expected an id below {num_pieces}.")
    return int(token_id)
