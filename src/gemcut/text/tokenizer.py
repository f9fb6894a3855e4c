"""The tokenizer: one implementation for every file form, with SentencePiece's answer everywhere."""

from __future__ import annotations

import codecs
import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import sentencepiece

from gemcut.errors import TokenizerError, UsageError
from gemcut.text import sentencepiece_proto as proto
from gemcut.text.gguf_vocabulary import model_from_gguf
from gemcut.text.json_vocabulary import adds_bos, model_from_json
from gemcut.text.special_tokens import is_marker
from gemcut.text.tokenizer_settings import TokenizerSettings, settings_from_config, with_added_tokens

_SPACE = "\u2581"
_SURROGATE = re.compile("[\ud800-\udfff]")
# As SentencePiece decodes: one U+FFFD for each byte that is part of no character.
BYTE_ERRORS = "gemcut.replace_each_byte"
codecs.register_error(BYTE_ERRORS, lambda error: ("\ufffd", error.start + 1))  # type: ignore[attr-defined]


class Tokenizer:
    """Text to token ids and back.

    Made by `from_sentencepiece`, `from_gguf` or `from_json`; the three give the same ids for the same model. Instances
    do not change and can be shared between threads and pickled.

    Attributes:
        vocab_size: Number of pieces, V; ids are 0 to V - 1.
        bos_token_id, eos_token_id, pad_token_id, unknown_token_id: Ids, None where the vocabulary has none.
        add_bos: Whether `encode` puts the beginning-of-text token before a text.
        chat_template: The Jinja source that came with the vocabulary, or None.
        special_tokens: Piece to id of the control tokens: text never becomes one of them, unless `parse_special`.
        special_token_ids: Their ids.
    """

    def __init__(self, model: proto.SentencePieceModel, settings: TokenizerSettings, where: str) -> None:
        self._state = (model, settings, where)
        if settings.added_tokens:
            model = with_added_tokens(model, settings.added_tokens, where)
        if settings.add_dummy_prefix is not None:
            model = proto.with_dummy_prefix(model, settings.add_dummy_prefix)
        self._model = model = _with_markers_as_control(model)
        self._processor = _load(model, where)
        self._legacy = settings.legacy
        self._bare_processor = self._processor
        if model.add_dummy_prefix and not settings.legacy:
            self._bare_processor = _load(proto.with_dummy_prefix(model, False), where)

        self.vocab_size = len(model.pieces)
        self.chat_template = settings.chat_template
        special = np.flatnonzero((model.types == proto.CONTROL) | (model.types == proto.UNKNOWN)).tolist()
        self.special_token_ids = frozenset(special)
        self.special_tokens: Mapping[str, int] = {model.pieces[token_id]: token_id for token_id in special}
        self._markers = _MarkerIndex(self.special_tokens)
        self._token_bytes: list[bytes | None] = [None] * self.vocab_size

        reserved = proto.reserved_ids(model)
        self.unknown_token_id: int | None = self._processor.unk_id()
        self.bos_token_id = self._reserved_id(settings.bos_token, reserved["bos"])
        self.eos_token_id = self._reserved_id(settings.eos_token, reserved["eos"])
        self.pad_token_id = self._reserved_id(settings.pad_token, reserved["pad"])
        self.add_bos = settings.add_bos is not False and self.bos_token_id is not None

    @classmethod
    def from_sentencepiece(cls, data: bytes, *, where: str, settings: TokenizerSettings | None = None) -> Tokenizer:
        """The tokenizer in the bytes of a `tokenizer.model`.

        Args:
            data: The file's bytes.
            where: File name for messages.
            settings: What tokenizer_config.json beside it says.

        Raises:
            TokenizerError: the bytes are damaged, or the settings do not belong to them.
        """
        return cls(proto.read_model(data, where), settings or TokenizerSettings(), where)

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any], *, where: str) -> Tokenizer:
        """The tokenizer under the `tokenizer.` keys of a GGUF file's metadata.

        Raises:
            TokenizerError: the vocabulary is of another kind, incomplete or contradictory.
        """
        model, settings = model_from_gguf(metadata, where)
        return cls(model, settings, where)

    @classmethod
    def from_json(
        cls,
        data: Mapping[str, Any],
        *,
        config: Mapping[str, Any] | None = None,
        where: str,
        settings: TokenizerSettings | None = None,
    ) -> Tokenizer:
        """The tokenizer in a parsed tokenizer.json.

        Args:
            data: The file as Python values.
            config: tokenizer_config.json as Python values, if there is one.
            where: File name for messages.
            settings: The settings to use in place of those in `config`.

        Raises:
            TokenizerError: the file is of another kind, or could not have been made from a SentencePiece model.
        """
        model = model_from_json(data, where)
        if settings is None:
            settings = settings_from_config(config or {}, where)
        names = set(model.pieces)
        for name, usual in _USUAL_PIECES.items():
            if getattr(settings, name) is None:
                found: dict[str, Any] = {name: next((piece for piece in usual if piece in names), None)}
                settings = dataclasses.replace(settings, **found)
        if settings.add_bos is None:
            settings = dataclasses.replace(settings, add_bos=adds_bos(data, settings.bos_token))
        return cls(model, settings, where)

    def encode(self, text: str, parse_special: bool = False, add_bos: bool = True) -> list[int]:
        """Token ids of a text.

        Args:
            text: Any text; a lone surrogate counts as U+FFFD.
            parse_special: Control-token text in `text` becomes the control token, the longest match first; otherwise
                it is spelled out like any other text.
            add_bos: Put the beginning-of-text token first if this tokenizer does so; it never stands there twice.

        Raises:
            UsageError: `text` is not text.
        """
        if not isinstance(text, str):
            raise UsageError(f"text is a {type(text).__name__}, expected str.")
        return self.encode_parts(self.split_special(text) if parse_special else [text], add_bos=add_bos)

    def encode_parts(self, parts: Sequence[str | int], add_bos: bool = True) -> list[int]:
        """Token ids of plain texts (never parsed for control tokens) and control-token ids in a row."""
        token_ids: list[int] = []
        for index, part in enumerate(parts):
            if isinstance(part, int):
                token_ids.append(part)
            elif part:
                processor = self._processor if index == 0 or self._legacy else self._bare_processor
                token_ids += processor.encode(_SURROGATE.sub("\ufffd", part))
        bos = self.bos_token_id
        if add_bos and bos is not None:
            first_text = next((i for i, token_id in enumerate(token_ids) if token_id != bos), len(token_ids))
            if self.add_bos or first_text > 0:
                token_ids[:first_text] = [bos]
        return token_ids

    def split_special(self, text: str) -> list[str | int]:
        """A text cut at its control tokens: plain texts and ids, the longest control token first at each place."""
        return self._markers.split(text)

    def decode(self, token_ids: Iterable[int], skip_special: bool = True, *, continues_prompt: bool = False) -> str:
        """The text of token ids.

        Args:
            token_ids: Ids below `vocab_size`.
            skip_special: Leave control tokens out; otherwise they appear as their piece.
            continues_prompt: The ids follow a prompt, so a space that starts them is text and not the tokenizer's own.

        Returns:
            Text in which each byte that is part of no character is a U+FFFD, as SentencePiece has it.

        Raises:
            UsageError: an id is outside the vocabulary.
        """
        parts = []
        at_start = not continues_prompt
        for token_id in token_ids:
            if skip_special and token_id in self.special_token_ids:
                continue
            parts.append(self.bytes_at_start(token_id) if at_start else self.token_bytes(token_id))
            at_start = at_start and self.stays_at_start(parts[-1])
        return b"".join(parts).decode("utf-8", BYTE_ERRORS)

    def token_bytes(self, token_id: int) -> bytes:
        """UTF-8 of one token: spaces as spaces, a byte piece as its byte, a control token as its piece.

        Raises:
            UsageError: the id is outside the vocabulary.
        """
        if not 0 <= token_id < self.vocab_size:
            raise UsageError(f"token id {token_id} is outside the vocabulary, expected 0 to {self.vocab_size - 1}.")
        known = self._token_bytes[token_id]
        if known is None:
            piece = self._model.pieces[token_id]
            kind = self._model.types[token_id]
            if kind == proto.BYTE:
                known = bytes([int(piece[3:5], 16)])
            elif token_id in self.special_token_ids:
                known = piece.encode("utf-8")
            else:
                known = piece.replace(_SPACE, " ").encode("utf-8")
            self._token_bytes[token_id] = known
        return known

    def bytes_at_start(self, token_id: int) -> bytes:
        """`token_bytes` of a token that starts a text: without the space that `encode` put before the text."""
        data = self.token_bytes(token_id)
        trims = self._model.add_dummy_prefix or self._model.remove_extra_whitespaces
        spaced = self._model.types[token_id] != proto.BYTE and token_id not in self.special_token_ids
        return data[1:] if trims and spaced and data.startswith(b" ") else data

    def stays_at_start(self, shown: bytes) -> bool:
        """Whether a text is still at its start after `shown`: only where every leading space is dropped."""
        return not shown and self._model.remove_extra_whitespaces

    def id_of(self, piece: str) -> int | None:
        """The id of a piece in the vocabulary's own writing (spaces as U+2581), or None."""
        token_id = self._processor.piece_to_id(piece)
        return token_id if self._model.pieces[token_id] == piece else None

    def piece_of(self, token_id: int) -> str:
        """The piece of an id in the vocabulary's own writing.

        Raises:
            UsageError: the id is outside the vocabulary.
        """
        self.token_bytes(token_id)
        return self._model.pieces[token_id]

    @property
    def vocabulary(self) -> proto.SentencePieceModel:
        """Pieces, scores and types as they count here: added tokens in their places, markers as control tokens."""
        return self._model

    @property
    def max_text_token_id(self) -> int:
        """The highest id that text without control tokens can become."""
        text = (self._model.types == proto.NORMAL) | (self._model.types == proto.USER_DEFINED)
        return int(np.flatnonzero(text | (self._model.types == proto.BYTE))[-1])

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all that ids depend on; the file forms share it if they name pieces alike."""
        model = self._model
        # Scores only matter by their order, and only for pieces that a merge can make.
        merged = (model.types == proto.NORMAL) & (np.fromiter(map(len, model.pieces), np.int64) > 1)
        ranks = np.zeros(self.vocab_size, np.int32)
        ranks[merged] = np.unique(model.scores[merged], return_inverse=True)[1]
        flags = (model.add_dummy_prefix, model.remove_extra_whitespaces, self._legacy, self.add_bos)
        ids = (self.bos_token_id, self.eos_token_id, self.pad_token_id, self.unknown_token_id)
        digest = hashlib.sha256(repr((flags, ids)).encode())
        for part in ("\0".join(model.pieces).encode("utf-8"), model.types.tobytes(), ranks.astype("<i4").tobytes()):
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as the vocabulary and settings that it was made from."""
        return type(self), self._state

    def _reserved_id(self, piece: str | None, by_vocabulary: int) -> int | None:
        """The id of a reserved piece: by its name if the settings have one, else as the vocabulary says."""
        if piece is not None and (token_id := self.id_of(piece)) is not None:
            return token_id
        return by_vocabulary if 0 <= by_vocabulary < self.vocab_size else None


class _MarkerIndex:
    """Finds control tokens in a text."""

    def __init__(self, special_tokens: Mapping[str, int]) -> None:
        self._ids = special_tokens
        self._lengths: dict[str, list[int]] = {}
        for first in sorted({piece[0] for piece in special_tokens if piece}):
            lengths = {len(piece) for piece in special_tokens if piece.startswith(first)}
            self._lengths[first] = sorted(lengths, reverse=True)
        self._candidates = re.compile("[" + re.escape("".join(self._lengths)) + "]") if self._lengths else None

    def split(self, text: str) -> list[str | int]:
        """Plain texts and control-token ids, in order, without empty texts."""
        parts: list[str | int] = []
        done = 0
        for candidate in self._candidates.finditer(text) if self._candidates else ():
            start = candidate.start()
            if start < done:
                continue
            for length in self._lengths[candidate.group()]:
                token_id = self._ids.get(text[start : start + length])
                if token_id is not None:
                    parts += [text[done:start], token_id] if start > done else [token_id]
                    done = start + length
                    break
        return [*parts, text[done:]] if done < len(text) else parts


_USUAL_PIECES = {"bos_token": ("<bos>", "<s>"), "eos_token": ("<eos>", "</s>"), "pad_token": ("<pad>",)}


def _with_markers_as_control(model: proto.SentencePieceModel) -> proto.SentencePieceModel:
    """`model` with its user-defined control tokens (see `is_marker`) out of reach of text."""
    types = model.types.copy()
    for token_id in np.flatnonzero(types == proto.USER_DEFINED).tolist():
        if is_marker(model.pieces[token_id]):
            types[token_id] = proto.CONTROL
    return dataclasses.replace(model, types=types)


def _load(model: proto.SentencePieceModel, where: str) -> sentencepiece.SentencePieceProcessor:
    """The model in the sentencepiece library."""
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(proto.write_model(model))
    except (RuntimeError, ValueError) as error:
        raise TokenizerError(
            f"{where}: SentencePiece does not accept this vocabulary ({str(error).strip()}). Fetch the file again."
        ) from None
    return processor
