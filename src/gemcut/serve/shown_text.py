"""What of a growing text a client sees."""

from __future__ import annotations

from gemcut.generate.scheduler import Update
from gemcut.generate.sequence import Sequence as TextSequence
from gemcut.generate.stopping import StopStrings
from gemcut.serve.requests import GenerationRequest
from gemcut.text import IncrementalDetokenizer, Tokenizer


class ShownText:
    """The text of a sequence as the request wants it: with control tokens, with the stop string.

    Args:
        sequence: The text.
        tokenizer: Of its model.
        asked: The request.
        shows_special: Control tokens are shown as their pieces.
    """

    def __init__(
        self, sequence: TextSequence, tokenizer: Tokenizer, asked: GenerationRequest, *, shows_special: bool
    ) -> None:
        self._sequence = sequence
        self._shows_stop = bool(asked.include_stop_str_in_output)
        self._detokenizer = (
            IncrementalDetokenizer(tokenizer, skip_special=False, continues_prompt=True) if shows_special else None
        )
        self._stops = StopStrings(sequence.options.stop)
        self._vocab_size = tokenizer.vocab_size
        self._own_stop_ids = frozenset(asked.stop_token_ids or ())

    @property
    def stop_reason(self) -> int | str | None:
        """The stop string, or the id of the request's own, that ended it."""
        found = self._sequence.stopped_by
        return found if isinstance(found, str) or found in self._own_stop_ids else None

    def push(self, update: Update) -> str:
        """The text to show for an update."""
        text = update.text if self._detokenizer is None else self._with_special(self._detokenizer, update)
        found = self._sequence.stopped_by
        return text + found if update.finished and self._shows_stop and isinstance(found, str) else text

    def _with_special(self, detokenizer: IncrementalDetokenizer, update: Update) -> str:
        known = [token_id for token_id in update.token_ids if token_id < self._vocab_size]
        text = "".join(map(detokenizer.push, known))
        if not update.finished:
            return self._stops.push(text)
        return self._stops.push(text + detokenizer.finish()) + self._stops.finish()
