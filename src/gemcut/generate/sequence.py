"""One text being generated: its tokens, its characters, and why it ends."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence as AbstractSequence
from typing import Any

import numpy as np

from gemcut.generate.stopping import StopStrings
from gemcut.interfaces import Completion, DecodedTokens, SamplingOptions, Timings
from gemcut.text import IncrementalDetokenizer, Tokenizer


@dataclasses.dataclass(frozen=True)
class GenerationOptions:
    """What a caller asks of one text beyond how tokens are chosen.

    Attributes:
        max_tokens: Tokens to generate at most; at least 1.
        stop: Stop strings.
        stop_token_ids: Ids that end the text.
        num_top_logprobs: None for no log-probabilities; k for the chosen token's and k alternatives.
        sampling: How tokens are chosen.
    """

    max_tokens: int
    stop: tuple[str, ...]
    stop_token_ids: tuple[int, ...]
    num_top_logprobs: int | None
    sampling: SamplingOptions


class Sequence:
    """A prompt and what has been generated after it.

    Args:
        prompt_ids: The prompt's token ids, at least one.
        tokenizer: Turns generated ids into text.
        options: What is asked.
        limit: Tokens this sequence may generate: `max_tokens`, or less where the context ends.
        sample_index: Which of n samples of the same prompt this is; it varies the seed.
    """

    def __init__(
        self,
        prompt_ids: AbstractSequence[int],
        tokenizer: Tokenizer,
        options: GenerationOptions,
        limit: int,
        sample_index: int = 0,
    ) -> None:
        self.prompt_ids = list(prompt_ids)
        self.options = options
        self.limit = limit
        self.token_ids: list[int] = []
        self.text = ""
        self.finish_reason: str | None = None
        self.timings = Timings()
        self._tokenizer = tokenizer
        self._detokenizer = IncrementalDetokenizer(tokenizer, continues_prompt=True)
        self._stops = StopStrings(options.stop)
        self._logprobs: list[dict[str, Any]] | None = None if options.num_top_logprobs is None else []
        self._num_generated = 0
        seed = options.sampling.seed
        entropy = secrets.randbits(128) if seed is None else [seed & (2**63 - 1), sample_index]
        self._random = np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))

    @property
    def remaining(self) -> int:
        """Tokens that may still be generated."""
        return 0 if self.finish_reason else self.limit - self._num_generated

    def uniforms(self, count: int) -> np.ndarray:
        """float32 (count,) in [0, 1): the next numbers of this sequence's own random stream."""
        return self._random.random(count, dtype=np.float32)

    def push(self, decoded: DecodedTokens, row: int) -> str:
        """Take in the tokens of row `row`; returns the text that is safe to show now."""
        shown = []
        for column, token_id in enumerate(decoded.token_ids[row].tolist()):
            if self.finish_reason:
                break
            self._num_generated += 1
            if token_id in self.options.stop_token_ids:
                self.finish_reason = "stop"
            else:
                self.token_ids.append(token_id)
                self._note_logprob(decoded, row, column)
                if token_id < self._tokenizer.vocab_size:  # rows that pad the embedding stand for no text
                    shown.append(self._stops.push(self._detokenizer.push(token_id)))
                if self._stops.hit:
                    self.finish_reason = "stop"
                elif self._num_generated >= self.limit:
                    self.finish_reason = "length"
        if self.finish_reason:
            shown.append(self._stops.push(self._detokenizer.finish()))
            shown.append(self._stops.finish())
        new = "".join(shown)
        self.text += new
        return new

    def completion(self) -> Completion:
        """The finished (or so far) generated text as a result."""
        usage = {"prompt_tokens": len(self.prompt_ids), "completion_tokens": self._num_generated}
        return Completion(
            self.text, self.token_ids, self.finish_reason or "length", usage, self._logprobs, self.timings
        )

    def _note_logprob(self, decoded: DecodedTokens, row: int, column: int) -> None:
        if self._logprobs is None or decoded.logprobs is None:
            return
        entry = self._entry(int(decoded.token_ids[row, column]), decoded.logprobs[row, column])
        entry["top"] = []
        if decoded.top_token_ids is not None and decoded.top_logprobs is not None:
            pairs = zip(decoded.top_token_ids[row, column], decoded.top_logprobs[row, column], strict=True)
            entry["top"] = [self._entry(int(token_id), logprob) for token_id, logprob in pairs]
        self._logprobs.append(entry)

    def _entry(self, token_id: int, logprob: float) -> dict[str, Any]:
        is_known = token_id < self._tokenizer.vocab_size
        token = self._tokenizer.token_bytes(token_id).decode("utf-8", errors="replace") if is_known else ""
        return {"token_id": token_id, "token": token, "logprob": float(logprob)}
