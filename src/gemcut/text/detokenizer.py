"""Token ids to text as they come, in whole characters."""

from __future__ import annotations

import codecs

from gemcut.text.tokenizer import BYTE_ERRORS, Tokenizer


class IncrementalDetokenizer:
    """Turns one token after another into text; the pieces add up to what `Tokenizer.decode` says of them all.

    Bytes that may still become a character are held back until it is whole or cannot become one any more.

    Args:
        tokenizer: Whose ids are pushed.
        skip_special: Leave control tokens out.
        continues_prompt: The ids follow a prompt, so a space that starts them is text.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True, continues_prompt: bool = False) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._at_start = not continues_prompt
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors=BYTE_ERRORS)

    def push(self, token_id: int) -> str:
        """The text that is certain now that `token_id` has come; often empty within a character.

        Raises:
            UsageError: the id is outside the vocabulary.
        """
        if self._skip_special and token_id in self._tokenizer.special_token_ids:
            return ""
        if not self._at_start:
            return self._decoder.decode(self._tokenizer.token_bytes(token_id))
        data = self._tokenizer.bytes_at_start(token_id)
        self._at_start = self._tokenizer.stays_at_start(data)
        return self._decoder.decode(data)

    def finish(self) -> str:
        """What was held back, as U+FFFD for each byte; the tokens end here."""
        return self._decoder.decode(b"", final=True)
