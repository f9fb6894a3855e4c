"""The seam: what a language model is to the rest of Gemcut, whichever engine computes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gemcut.config import DecoderConfig
from gemcut.errors import UsageError


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
    """How the next token is chosen from the logits, for one sequence.

    The order is: penalties and bias on the logits, temperature, top-k, top-p, min-p, draw.

    Attributes:
        temperature: Logits are divided by it; 0 takes the most probable token, exactly.
        top_k: Only the k most probable tokens stay; 0 keeps all.
        top_p: The smallest set of most probable tokens whose mass reaches it stays; above 0, up to 1.
        min_p: Tokens below this share of the most probable token's probability go; from 0, below 1.
        repetition_penalty: Logits of tokens seen in prompt or answer are divided (positive) or
            multiplied (negative) by it; above 0, 1 is off.
        presence_penalty: Subtracted once from logits of tokens in the answer so far.
        frequency_penalty: Subtracted from them for each time they occurred.
        logit_bias: (token id, number added to its logit) pairs.
        seed: The same seed gives the same text on the same engine; None draws a new one.

    Raises:
        UsageError: a number is outside its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        ranges = {
            "temperature": (self.temperature >= 0 and np.isfinite(self.temperature), "at least 0"),
            "top_k": (self.top_k >= 0, "at least 0 (0 keeps all)"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "min_p": (0 <= self.min_p < 1, "from 0 to below 1"),
            "repetition_penalty": (self.repetition_penalty > 0, "above 0 (1 is off)"),
            "presence_penalty": (abs(self.presence_penalty) <= 100, "between -100 and 100"),
            "frequency_penalty": (abs(self.frequency_penalty) <= 100, "between -100 and 100"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                raise UsageError(f"{name} is {getattr(self, name)}, expected a number {expected}.")

    @property
    def has_penalties(self) -> bool:
        """Whether any option needs the tokens seen so far, or a bias."""
        off = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) == (1.0, 0.0, 0.0)
        return not off or bool(self.logit_bias)


@dataclasses.dataclass(frozen=True)
class DecodedTokens:
    """What one decode call produced.

    Attributes:
        token_ids: int32 (B, n), n at most the number of steps asked for.
        logprobs: float32 (B, n), natural-log probability of each token under the model's own
            distribution (temperature 1, no cuts); None unless asked for.
        top_token_ids, top_logprobs: (B, n, k) most probable alternatives, best first; None unless asked for.
    """

    token_ids: np.ndarray
    logprobs: np.ndarray | None = None
    top_token_ids: np.ndarray | None = None
    top_logprobs: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class ContinuationScore:
    """How probable the last tokens of a text are.

    Attributes:
        logprobs: float32 (n,), natural-log probability of each, given all before it.
        is_greedy: Whether each of them is the most probable one where it stands.
    """

    logprobs: np.ndarray
    is_greedy: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Chosen:
    """What one pass, or a few, gave one text.

    Attributes:
        token_ids: The tokens chosen, in order.
        logprobs: Natural-log probability of each, as in `DecodedTokens`; None unless asked for.
        top: For each the most probable (token id, log-probability) pairs, best first; None unless asked for.
    """

    token_ids: list[int]
    logprobs: list[float] | None = None
    top: list[list[tuple[int, float]]] | None = None


class Constraint(Protocol):
    """What a text may say, token by token."""

    def allowed(self) -> np.ndarray:
        """uint32 (ceil(V / 32),): bit i % 32 of word i // 32 is set where token i may follow.

        Stop ids are set exactly where the text may end.
        """

    def forced(self) -> list[int]:
        """Tokens that must follow whatever the model says, perhaps none; they count only once they are pushed."""

    def push(self, token_ids: Sequence[int]) -> None:
        """Take in what followed.

        Raises:
            UsageError: it was not allowed.
        """

    @property
    def is_finished(self) -> bool:
        """Whether nothing but a stop id may follow."""


@dataclasses.dataclass(frozen=True, eq=False)
class LowRankUpdate:
    """What an adapter adds to one matrix W (out, in): scale * B A.

    Attributes:
        a: float32 (r, in), finite.
        b: float32 (out, r), finite.
        scale: The factor.

    Source: LoRA, arXiv:2106.09685, section 4.1.
    """

    a: np.ndarray
    b: np.ndarray
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix that it changes: (out, in)."""
        return self.b.shape[0], self.a.shape[1]

    @property
    def rank(self) -> int:
        """The number of rows of A, and of columns of B."""
        return self.a.shape[0]

    def rows(self, first: int, last: int) -> LowRankUpdate:
        """The update of rows [first, last) of the matrix."""
        return dataclasses.replace(self, b=self.b[first:last])

    def add_to(self, values: np.ndarray, rows: slice | np.ndarray = slice(None)) -> None:
        """Add rows of the product to float32 `values` of the same rows; each number is rounded once."""
        exact = (self.scale * self.b[rows].astype(np.float64)) @ self.a.astype(np.float64)
        exact += values
        with np.errstate(over="ignore"):  # an infinite number is the reader's to report
            values[...] = exact


class KVCache(Protocol):
    """Keys and values of B sequences, owned by the engine that made it.

    Layout of every engine: for each layer, keys and values of (B, K, S, H). A full-attention layer
    holds S = capacity slots; a sliding layer holds a ring of S = min(sliding_window, capacity).
    Position p of a sequence lives in slot p % S, so what a slot holds follows from the sequence's length.

    Attributes:
        capacity: Tokens one sequence may reach.
        lengths: int32 (B,), tokens of each sequence seen so far.
        num_reused: Tokens of each sequence's prompt that did not have to be computed.
    """

    capacity: int
    lengths: np.ndarray
    num_reused: list[int]


@dataclasses.dataclass
class Timings:
    """Where the time of a generation went; sequences that an engine can only run as one batch share one.

    Attributes:
        prefill_tokens, prefill_seconds: Tokens of prompts that were computed, and the time that took; where others
            shared the passes, theirs too.
        decode_tokens, decode_seconds: Tokens generated, counted for one sequence, and the time that took.
        compile_seconds: Time of calls that compiled something first; they are in neither of the others.
    """

    prefill_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_tokens: int = 0
    decode_seconds: float = 0.0
    compile_seconds: float = 0.0


class LanguageModel(Protocol):
    """A decoder with its weights on one engine.

    Attributes:
        config: The model's configuration.
        engine: "native", "jax", "torch" or "tensorflow".
        dtype: Name of the compute dtype.
        device: The device in words, such as "cpu".
        num_threads: CPU threads it computes with.
    """

    config: DecoderConfig
    engine: str
    dtype: str
    device: str
    num_threads: int

    def num_compiled(self) -> int:
        """Programs compiled so far; 0 for an engine that compiles nothing while it runs."""

    def new_cache(self, batch_size: int, max_tokens: int) -> Any:
        """An empty `KVCache` of the engine's own kind: `batch_size` sequences of up to `max_tokens` tokens each."""

    def prefill(self, cache: Any, token_ids: Sequence[Sequence[int]]) -> None:
        """Append tokens to each sequence (row by row, unequal lengths; an empty row stays as it is)."""

    def decode(
        self,
        cache: Any,
        num_steps: int,
        options: Sequence[SamplingOptions],
        uniforms: np.ndarray,
        *,
        num_top_logprobs: int | None = None,
        mask: np.ndarray | None = None,
        stop_token_ids: Sequence[int] = (),
    ) -> DecodedTokens:
        """Choose and append up to `num_steps` tokens to every sequence, the same number to each.

        Args:
            cache: Sequences, each with at least one token and room for `num_steps` more.
            num_steps: At least 1.
            options: One for each sequence.
            uniforms: float32 (B, num_steps) in [0, 1): the randomness of the draws.
            num_top_logprobs: None for no log-probabilities; 0 for the chosen token's; k for k alternatives too.
            mask: bool (B, V), tokens allowed at the first step; only with `num_steps` 1.
            stop_token_ids: Decoding may end early once every sequence has produced one of these in this call.
        """

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """float32 (T, V): next-token logits after each position of one sequence."""

    def score(self, token_ids: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """For each sequence float32 (T - 1,): log-probability of token t + 1 given the tokens up to t."""

    def score_continuations(
        self, token_ids: Sequence[Sequence[int]], num_scored: Sequence[int]
    ) -> list[ContinuationScore]:
        """How probable the last `num_scored[i]` tokens of each text are.

        A beginning that texts share is computed once, also one that the call before had; neighbours should share most.

        Args:
            token_ids: Texts of at least two tokens.
            num_scored: Of each, from 1 to one less than its tokens.
        """

    def hidden_states(self, token_ids: Sequence[int]) -> np.ndarray:
        """float32 (T, D): the decoder's output after the final norm."""

    def close(self) -> None:
        """Free the weights; later calls raise."""


def first_scored(token_ids: Sequence[Sequence[int]], num_scored: Sequence[int]) -> list[int]:
    """Where in each text the scored tokens begin; arguments as in `LanguageModel.score_continuations`.

    Raises:
        UsageError: a number is out of range, or there is not one for each text.
    """
    if len(num_scored) != len(token_ids):
        raise UsageError(
            f"num_scored: found {len(num_scored)} numbers, expected one for each of {len(token_ids)} texts."
        )
    for index, (row, count) in enumerate(zip(token_ids, num_scored, strict=True)):
        if not 1 <= count < len(row):
            raise UsageError(
                f"num_scored: it is {count} for text {index} of {len(row)} tokens, expected 1 or more and one before."
            )
    return [len(row) - count for row, count in zip(token_ids, num_scored, strict=True)]


class RunningText(Protocol):
    """A text in an engine that is continuous; dropping it frees its memory.

    Attributes:
        num_reused: Tokens of its prompt that did not have to be computed.
        num_waiting: Tokens whose keys and values are not stored yet; those of the prompt, and the one chosen last.
    """

    num_reused: int
    num_waiting: int

    def append(self, token_ids: list[int]) -> None:
        """Tokens of the answer that nobody had to choose; they are computed in the next passes."""


@dataclasses.dataclass(slots=True)
class Share:
    """One text's part of a pass.

    Attributes:
        text: Which.
        max_tokens: How many of its waiting tokens may be computed; at least 1. Once none waits, a token is chosen.
        uniforms: float32 (num_steps,) in [0, 1): the randomness of the draws; None for a text that takes the best.
        allowed: uint32 (ceil(V / 32),) as `Constraint.allowed` gives it; None for all. Only with one step.
    """

    text: Any
    max_tokens: int
    uniforms: np.ndarray | None = None
    allowed: np.ndarray | None = None


@runtime_checkable
class ContinuousModel(LanguageModel, Protocol):
    """A language model whose texts join and leave at any pass, each with options of its own.

    Attributes:
        prefix_cache_bytes: Memory that ended texts may keep for others with the same beginning; 0: nothing is reused.
    """

    prefix_cache_bytes: int

    def sequence_bytes(self, max_tokens: int) -> int:
        """The most memory that one text of up to `max_tokens` tokens, prompt and answer, takes for what it has seen."""

    def new_text(
        self,
        token_ids: Sequence[int],
        max_tokens: int,
        options: SamplingOptions,
        *,
        num_top_logprobs: int | None = None,
        stop_token_ids: Sequence[int] = (),
    ) -> RunningText:
        """A text that begins with a prompt of at least one token; nothing is computed yet.

        What other texts of this model, alive or ended, have computed of its beginning is taken over.
        """

    def run_pass(self, shares: Sequence[Share], num_steps: int = 1) -> list[Chosen]:
        """Compute tokens of several texts together; a text's numbers do not depend on the others.

        Args:
            shares: Different texts; together some hundred waiting tokens at most are sensible.
            num_steps: Tokens to choose for each; above 1 only where each has one token waiting. It ends early, after
                the same number for each, once one of them has met a stop id.

        Returns:
            What each was given, in order; nothing for those that still wait.
        """


@dataclasses.dataclass(frozen=True)
class Completion:
    """A generated text.

    Attributes:
        text: The answer, prompt not included, stop strings cut off.
        token_ids: Generated ids, without the id that ended them.
        finish_reason: "stop" (stop id, stop string or the end of what it may say) or "length" (max_tokens or the
            context's end reached); of a text in a scheduler also "cancelled", "timeout" or "error".
        usage: {"prompt_tokens": int, "completion_tokens": int}; the ending id counts as completed.
        logprobs: One entry per token of `token_ids` when asked for: {"token_id", "token", "logprob", "top": [...]}.
        timings: Where the time went.
    """

    text: str
    token_ids: list[int]
    finish_reason: str
    usage: dict[str, int]
    logprobs: list[dict[str, Any]] | None = None
    timings: Timings | None = dataclasses.field(default=None, compare=False)


@dataclasses.dataclass(frozen=True)
class Piece:
    """A streamed part of a text: whole characters only.

    Attributes:
        text: What is new; the pieces of a stream add up to `Completion.text`.
        token_ids: Ids generated since the last piece.
        completion: The finished completion, on the last piece only.
    """

    text: str
    token_ids: list[int]
    completion: Completion | None = None
