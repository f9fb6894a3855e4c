"""What the files beside a vocabulary say about its use: special tokens, BOS, chat template."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gemcut.errors import TokenizerError
from gemcut.text import sentencepiece_proto as proto
from gemcut.text.special_tokens import is_marker


@dataclasses.dataclass(frozen=True)
class TokenizerSettings:
    """Settings that are not in the vocabulary itself; None leaves a question to the vocabulary.

    Attributes:
        add_bos: The beginning-of-text token is put before a text.
        add_dummy_prefix: A space is put before a text.
        legacy: That space is put before every stretch of text between special tokens, not only before the first.
        bos_token, eos_token, pad_token: Pieces that play these parts.
        added_tokens: (token id, piece, special) of tokens that replace reserved pieces or extend the vocabulary.
        chat_template: Jinja source, or None.
    """

    add_bos: bool | None = None
    add_dummy_prefix: bool | None = None
    legacy: bool = True
    bos_token: str | None = None
    eos_token: str | None = None
    pad_token: str | None = None
    added_tokens: tuple[tuple[int, str, bool], ...] = ()
    chat_template: str | None = None


def settings_from_config(config: Mapping[str, Any], where: str) -> TokenizerSettings:
    """The settings in a tokenizer_config.json.

    Raises:
        TokenizerError: a key that Gemcut uses holds something of another kind.
    """
    added = config.get("added_tokens_decoder") or {}
    try:
        added_tokens = tuple((int(i), _text(token, where), _is_special(token)) for i, token in added.items())
    except (AttributeError, ValueError) as error:
        raise TokenizerError(
            f"{where}: added_tokens_decoder is not a mapping from token ids to tokens ({error}). Fetch the file again."
        ) from None
    return TokenizerSettings(
        add_bos=_flag(config, "add_bos_token", where),
        add_dummy_prefix=False if _flag(config, "add_prefix_space", where) is False else None,
        legacy=_flag(config, "legacy", where) is not False,
        bos_token=_text(config.get("bos_token"), where),
        eos_token=_text(config.get("eos_token"), where),
        pad_token=_text(config.get("pad_token"), where),
        added_tokens=added_tokens,
        chat_template=_template(config.get("chat_template"), where),
    )


def with_added_tokens(
    model: proto.SentencePieceModel, added: Sequence[tuple[int, str, bool]], where: str
) -> proto.SentencePieceModel:
    """`model` with reserved pieces renamed and new ones appended, as the files beside it say.

    Raises:
        TokenizerError: a token would replace ordinary text, or leaves a gap after the vocabulary.
    """
    pieces, types = list(model.pieces), model.types.tolist()
    reserved = (proto.CONTROL, proto.USER_DEFINED, proto.UNUSED, proto.UNKNOWN)
    for token_id, piece, special in sorted(added):
        kind = proto.CONTROL if special or is_marker(piece) else proto.USER_DEFINED
        if token_id == len(pieces):
            pieces.append(piece)
            types.append(kind)
        elif not 0 <= token_id < len(pieces):
            raise TokenizerError(
                f"{where}: added token {piece!r} has id {token_id}, expected at most {len(pieces)}, the next free id. "
                "Use the files that came together."
            )
        elif pieces[token_id] == piece:
            types[token_id] = proto.CONTROL if special and types[token_id] == proto.USER_DEFINED else types[token_id]
        elif types[token_id] in reserved:
            pieces[token_id] = piece
            types[token_id] = kind if types[token_id] != proto.UNKNOWN else proto.UNKNOWN
        elif (types[token_id], pieces[token_id]) != (proto.BYTE, "<0x09>"):
            # Hugging Face writes Gemma's byte piece of the tab as the tab itself; any other clash is a mix-up.
            raise TokenizerError(
                f"{where}: added token {piece!r} has id {token_id}, which is {pieces[token_id]!r} in the vocabulary. "
                "Use the files that came together."
            )
    scores = np.zeros(len(pieces), np.float32)
    scores[: len(model.pieces)] = model.scores
    return dataclasses.replace(model, pieces=pieces, scores=scores, types=np.array(types, np.uint8))


def _is_special(token: Any) -> bool:
    """Whether an added token is a control token; added_tokens.json gives its text alone."""
    return isinstance(token, Mapping) and bool(token.get("special"))


def _flag(config: Mapping[str, Any], key: str, where: str) -> bool | None:
    value = config.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise TokenizerError(f"{where}: {key} is {value!r}, expected true or false. Fetch the file again.")


def _text(token: Any, where: str) -> Any:
    """The piece of a token, which is written as text or as an object with `content`; None stays None."""
    content = token.get("content") if isinstance(token, Mapping) else token
    if content is None and not isinstance(token, Mapping):
        return None
    if not isinstance(content, str):
        raise TokenizerError(f"{where}: a token is {token!r}, expected text or an object with a text `content`.")
    return content


def _template(value: Any, where: str) -> str | None:
    """The template, or of several named ones the one called "default"."""
    if isinstance(value, list):
        value = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}.get("default")
    if value is None or isinstance(value, str):
        return value
    raise TokenizerError(f"{where}: chat_template is a {type(value).__name__}, expected text. Fetch the file again.")
