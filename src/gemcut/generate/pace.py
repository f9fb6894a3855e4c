"""How long passes take, and how much one may hold so that nobody waits long for the next."""

from __future__ import annotations

import collections
import math

PASS_TOKENS = 256  # rows that the engine computes together; more only wait for each other
MIN_CHUNK = 32  # tokens of prompts that a pass takes however long that is
PASS_SECONDS = 0.08  # of a pass that computes prompts beside answers: what an answer waits for its next token
BURST_SECONDS = 0.04  # of tokens that come together: what a new prompt waits
SMOOTHING = 0.3  # share of a new time in the smoothed one


class Pace:
    """Measures passes and says how large the next may be. Answers do not depend on it."""

    def __init__(self) -> None:
        self._prompt_token_seconds = 0.0
        self._step_seconds: collections.deque[float] = collections.deque(maxlen=3)

    def note(self, prompt_tokens: int, num_steps: int, seconds: float) -> None:
        """What a pass took that computed so many tokens of prompts, or else chose so many one after the other."""
        if prompt_tokens >= MIN_CHUNK:
            share = SMOOTHING if self._prompt_token_seconds else 1.0
            self._prompt_token_seconds += share * (seconds / prompt_tokens - self._prompt_token_seconds)
        elif not prompt_tokens:
            self._step_seconds.append(seconds / max(num_steps, 1))

    def prompt_tokens(self, num_taken: int) -> int:
        """Tokens of prompts that a pass may take beside so many tokens of answers."""
        room = PASS_TOKENS - num_taken
        if num_taken and self._prompt_token_seconds:
            room = min(room, int(PASS_SECONDS / self._prompt_token_seconds))
        return max(room, MIN_CHUNK)

    def num_steps(self, longest: int, burst_seconds: float) -> int:
        """Tokens that may come together: `longest`, or what fits the time."""
        if not self._step_seconds or math.isinf(burst_seconds):
            return longest
        # A pass that was held up by another process says nothing, so the fastest of the last few counts.
        return max(1, min(longest, int(burst_seconds / max(min(self._step_seconds), 1e-9))))
