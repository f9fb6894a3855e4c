"""The engine's tokenizer behind the interface of `gemcut.text.Tokenizer`, with the same answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from gemcut.engine.checkpoint import NativeCheckpoint
from gemcut.engine.extension import native
from gemcut.errors import TokenizerError, UsageError
from gemcut.text import Tokenizer

_SURROGATE = re.compile("[\ud800-\udfff]")


class NativeTokenizer(Tokenizer):
    """`gemcut.text.Tokenizer` computed by the C++ engine; it is ready in milliseconds.

    Args:
        checkpoint: Holds the vocabulary (`has_vocabulary`); may be closed afterwards.

    Attributes:
        vocab_size, bos_token_id, eos_token_id, pad_token_id, unknown_token_id, add_bos, chat_template, special_tokens,
        special_token_ids: See `gemcut.text.Tokenizer`.

    Raises:
        TokenizerError: the vocabulary is damaged or contradictory.
    """

    def __init__(self, checkpoint: NativeCheckpoint) -> None:
        self._native: Any = native().Tokenizer(checkpoint.handle, checkpoint.path.name)
        self._where = checkpoint.path.name
        for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "unknown_token_id", "add_bos"):
            setattr(self, name, getattr(self._native, name))
        self.chat_template = self._native.chat_template or None
        special: list[int] = self._native.special_token_ids
        self.special_token_ids = frozenset(special)
        self.special_tokens = {self._native.piece(token_id): token_id for token_id in special}
        self._highest: int = self._native.max_text_token_id

    def encode(self, text: str, parse_special: bool = False, add_bos: bool = True) -> list[int]:
        """See `gemcut.text.Tokenizer.encode`."""
        if not isinstance(text, str):
            raise UsageError(f"text is a {type(text).__name__}, expected str.")
        return self._native.encode(_whole(text), parse_special, add_bos)

    def encode_parts(self, parts: Sequence[str | int], add_bos: bool = True) -> list[int]:
        """See `gemcut.text.Tokenizer.encode_parts`."""
        checked = [_whole(part) if isinstance(part, str) else int(part) for part in parts]
        return self._native.encode_parts(checked, add_bos)

    def split_special(self, text: str) -> list[str | int]:
        """See `gemcut.text.Tokenizer.split_special`."""
        return self._native.split_special(_whole(text))

    def decode(self, token_ids: Iterable[int], skip_special: bool = True, *, continues_prompt: bool = False) -> str:
        """See `gemcut.text.Tokenizer.decode`."""
        return self._native.decode([int(token_id) for token_id in token_ids], skip_special, continues_prompt)

    def token_bytes(self, token_id: int) -> bytes:
        """See `gemcut.text.Tokenizer.token_bytes`."""
        return self._native.token_bytes(token_id)

    def bytes_at_start(self, token_id: int) -> bytes:
        """See `gemcut.text.Tokenizer.bytes_at_start`."""
        return self._native.bytes_at_start(token_id)

    def stays_at_start(self, shown: bytes) -> bool:
        """See `gemcut.text.Tokenizer.stays_at_start`."""
        return self._native.stays_at_start(shown)

    def id_of(self, piece: str) -> int | None:
        """See `gemcut.text.Tokenizer.id_of`."""
        return self._native.id_of(piece)

    def piece_of(self, token_id: int) -> str:
        """See `gemcut.text.Tokenizer.piece_of`."""
        return self._native.piece(token_id)

    @property
    def max_text_token_id(self) -> int:
        """See `gemcut.text.Tokenizer.max_text_token_id`."""
        return self._highest

    def digest(self) -> NoReturn:
        """Not known to the engine.

        Raises:
            TokenizerError: always.
        """
        raise TokenizerError(f"{self._where}: the engine's tokenizer has no digest. Use gemcut.text.load_tokenizer.")

    def __reduce__(self) -> NoReturn:
        """It lives in the engine.

        Raises:
            TypeError: always.
        """
        raise TypeError("a tokenizer of the native engine cannot be pickled; pickle the model's path instead.")


def _whole(text: str) -> str:
    """`text` with U+FFFD for each lone surrogate, which UTF-8 does not have."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
