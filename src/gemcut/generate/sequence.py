"""One text being generated: its tokens, its characters, and why it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import Iterator
from collections.abc import Sequence as AbstractSequence
from typing import Any

import numpy as np

from gemcut.errors import BackendError
from gemcut.generate.stopping import StopStrings
from gemcut.interfaces import Chosen, Completion, Constraint, SamplingOptions, Timings
from gemcut.text import IncrementalDetokenizer, Tokenizer

DRAWS = 64  # random numbers made at once


@dataclasses.dataclass(frozen=True)
class GenerationOptions:
    """What a caller asks of one text beyond how tokens are chosen.

    Attributes:
        max_tokens: Tokens to generate at most; at least 1.
        stop: Stop strings.
        stop_token_ids: Ids that end the text.
        num_top_logprobs: None for no log-probabilities; k for the chosen token's and k alternatives.
        sampling: How tokens are chosen.
        constraint: What the text may say; it belongs to this text alone. None for anything.
        min_tokens: Tokens to generate before a stop id may end the text.
        ignore_stop_ids: The model's own stop ids are left out of `stop_token_ids`.
    """

    max_tokens: int
    stop: tuple[str, ...]
    stop_token_ids: tuple[int, ...]
    num_top_logprobs: int | None
    sampling: SamplingOptions
    constraint: Constraint | None = None
    min_tokens: int = 0
    ignore_stop_ids: bool = False


class Sequence:
    """A prompt and what has been generated after it.

    Args:
        prompt_ids: The prompt's token ids, at least one.
        tokenizer: Turns generated ids into text.
        options: What is asked.
        limit: Tokens this sequence may generate: `max_tokens`, or less where the context ends.
        sample_index: Which of n samples of the same prompt this is; it varies the seed.
        deadline: When it ends whatever it has, in seconds of `time.monotonic`; None for never.

    Attributes:
        prompt_ids, options, limit, deadline: As given.
        token_ids: Generated ids, without the id that ended them.
        text: What they say, stop strings cut off.
        logprobs: One entry per token of `token_ids` when asked for; see `gemcut.Completion`.
        finish_reason: None while it goes on; "stop", "length", "cancelled", "timeout" or "error".
        stopped_by: The stop id or the stop string that ended it; None where neither did.
        error: What went wrong, with "error".
        num_generated: Tokens generated, the ending id included.
        num_reused: Tokens of the prompt that did not have to be computed.
        timings: Where the time went.
    """

    def __init__(
        self,
        prompt_ids: AbstractSequence[int],
        tokenizer: Tokenizer,
        options: GenerationOptions,
        limit: int,
        sample_index: int = 0,
        deadline: float | None = None,
    ) -> None:
        self.prompt_ids = list(prompt_ids)
        self.options, self.limit, self.deadline = options, limit, deadline
        self.token_ids: list[int] = []
        self.text = ""
        self.logprobs: list[dict[str, Any]] | None = None if options.num_top_logprobs is None else []
        self.finish_reason: str | None = None
        self.stopped_by: int | str | None = None
        self.error: Exception | None = None
        self.num_generated = self.num_reused = 0
        self.timings = Timings()
        self._tokenizer = tokenizer
        self._detokenizer = IncrementalDetokenizer(tokenizer, continues_prompt=True)
        self._stops = StopStrings(options.stop)
        seed = options.sampling.seed
        entropy = secrets.randbits(128) if seed is None else [seed & (2**63 - 1), sample_index]
        self._random = np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
        self._draws = np.empty(0, np.float32)

    @property
    def remaining(self) -> int:
        """Tokens that may still be generated."""
        return 0 if self.finish_reason else self.limit - self.num_generated

    @property
    def is_masked(self) -> bool:
        """Whether some tokens may not come next."""
        return self.options.constraint is not None or self.num_generated < self.options.min_tokens

    def uniforms(self, count: int) -> np.ndarray:
        """float32 (count,) in [0, 1): the draws of the next tokens; each token of a text has its own."""
        end = self.num_generated + count
        while len(self._draws) < end:
            self._draws = np.concatenate([self._draws, self._random.random(DRAWS, dtype=np.float32)])
        return self._draws[self.num_generated : end]

    def allowed(self, vocab_size: int, *, has_skipped: bool = False) -> np.ndarray | None:
        """The tokens that may come next, as `Constraint.allowed` has them for V = `vocab_size`; None for all.

        A constraint that fails ends the sequence. `has_skipped` says that `skip_ahead` was called since the last token.
        """
        if not self.is_masked:
            return None
        num_words = -(-vocab_size // 32)
        words = None
        with self._ended_by_errors():
            words = self._allowed_words(num_words, asks_forced=not has_skipped or self.logprobs is not None)
        if self.finish_reason:
            self.push(Chosen([]))
        return np.zeros(num_words, np.uint32) if words is None else words

    def skip_ahead(self) -> list[int]:
        """Take in the tokens that must follow, which nobody has to choose; returns them.

        None are taken where log-probabilities are asked for, which only the model can say.
        """
        constraint, token_ids = self.options.constraint, []
        if constraint is None or self.finish_reason:
            return []
        with self._ended_by_errors():
            if constraint.is_finished:
                self.end("stop")
            elif self.logprobs is None:
                token_ids = constraint.forced()[: self.remaining]
        self.push(Chosen(token_ids))
        return token_ids

    def push(self, chosen: Chosen) -> str:
        """Take in tokens; returns the text that is safe to show now."""
        shown = []
        for index, token_id in enumerate(chosen.token_ids):
            if self.finish_reason:
                break
            self.num_generated += 1
            if token_id in self.options.stop_token_ids:
                self.finish_reason, self.stopped_by = "stop", token_id
            else:
                self.token_ids.append(token_id)
                if self.logprobs is not None and chosen.logprobs is not None:
                    self.logprobs.append(self._entry(chosen, index))
                if token_id < self._tokenizer.vocab_size:  # rows that pad the embedding stand for no text
                    shown.append(self._stops.push(self._detokenizer.push(token_id)))
                self._note_end(token_id)
        if self.finish_reason:
            shown.append(self._last_text())
        new = "".join(shown)
        self.text += new
        return new

    def end(self, reason: str, error: Exception | None = None) -> str:
        """End it here; returns the text that was held back. Nothing happens to one that has ended."""
        if self.finish_reason:
            return ""
        self.finish_reason, self.error = reason, error
        new = self._last_text()
        self.text += new
        return new

    def completion(self) -> Completion:
        """The finished (or so far) generated text as a result."""
        usage = {"prompt_tokens": len(self.prompt_ids), "completion_tokens": self.num_generated}
        reason = self.finish_reason or "length"
        return Completion(self.text, self.token_ids, reason, usage, self.logprobs, self.timings)

    def _allowed_words(self, num_words: int, *, asks_forced: bool) -> np.ndarray:
        """uint32 (num_words,), the bits of the tokens that may come next; not to be changed."""
        constraint = self.options.constraint
        if constraint is None:
            words = np.full(num_words, 0xFFFFFFFF, np.uint32)
        elif asks_forced and (forced := constraint.forced()):
            words = np.zeros(num_words, np.uint32)
            words[forced[0] // 32] = 1 << forced[0] % 32
            return words
        else:
            words = constraint.allowed()[:num_words]
            if len(words) < num_words:
                words = np.pad(words, (0, num_words - len(words)))
        if self.num_generated >= self.options.min_tokens:
            return words
        goes_on = words.copy()
        for token_id in self.options.stop_token_ids:
            goes_on[token_id // 32] &= 0xFFFFFFFF ^ (1 << token_id % 32)
        return goes_on if goes_on.any() else words

    def _note_end(self, token_id: int) -> None:
        """Whether the token that was just taken in is the last one."""
        constraint, is_finished = self.options.constraint, False
        if constraint is not None:
            with self._ended_by_errors():
                constraint.push([token_id])
                is_finished = constraint.is_finished
        if self.finish_reason:
            return
        if self._stops.found is not None:
            self.finish_reason, self.stopped_by = "stop", self._stops.found
        elif is_finished:
            self.finish_reason = "stop"
        elif self.num_generated >= self.limit:
            self.finish_reason = "length"

    @contextlib.contextmanager
    def _ended_by_errors(self) -> Iterator[None]:
        """What goes wrong in its constraint ends this sequence, and no other."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - see above; a Rust panic is no Exception
            self.finish_reason = "error"
            self.error = error if isinstance(error, Exception) else BackendError(f"constraint: it failed ({error}).")

    def _last_text(self) -> str:
        """What was held back, now that nothing follows."""
        return self._stops.push(self._detokenizer.finish()) + self._stops.finish()

    def _entry(self, chosen: Chosen, index: int) -> dict[str, Any]:
        assert chosen.logprobs is not None
        top = chosen.top[index] if chosen.top else []
        entry = self._named(chosen.token_ids[index], chosen.logprobs[index])
        return entry | {"top": [self._named(token_id, logprob) for token_id, logprob in top]}

    def _named(self, token_id: int, logprob: float) -> dict[str, Any]:
        is_known = token_id < self._tokenizer.vocab_size
        token = self._tokenizer.token_bytes(token_id).decode("utf-8", errors="replace") if is_known else ""
        return {"token_id": token_id, "token": token, "logprob": logprob}
