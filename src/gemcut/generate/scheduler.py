"""Which sequences run when: batches of them through an engine, bursts of tokens at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as AbstractSequence

import numpy as np

from gemcut.generate.sequence import Sequence
from gemcut.interfaces import LanguageModel, Timings

MAX_BATCH = 8
LONGEST_BURST = 32  # tokens asked of the engine at once when nobody watches
WATCHED_BURST = 8  # the same when pieces are shown as they come, or a stop string may end the text anywhere


class Scheduler:
    """Runs sequences on one engine.

    Sequences that share a batch are of similar length, so little is computed for padding.

    Args:
        engine: Computes the tokens.
        max_batch: Sequences that run side by side.
    """

    def __init__(self, engine: LanguageModel, max_batch: int = MAX_BATCH) -> None:
        self._engine = engine
        self._max_batch = max_batch

    def run(self, sequences: AbstractSequence[Sequence]) -> None:
        """Generate until every sequence is finished."""
        for batch in self._batches(sequences):
            for _ in self._batch(batch, LONGEST_BURST):
                pass  # results gather in the sequences

    def stream(self, sequence: Sequence) -> Iterator[str]:
        """Generate one sequence; yields its new text (perhaps empty) after each burst."""
        for texts in self._batch([sequence], WATCHED_BURST):
            yield texts[0]

    def _batches(self, sequences: AbstractSequence[Sequence]) -> Iterator[list[Sequence]]:
        """Sequences of similar length, as many as may run side by side.

        A finished row grows with its batch until the last one is finished, so that must fit the context too.
        """
        batch: list[Sequence] = []
        for sequence in sorted(sequences, key=lambda sequence: len(sequence.prompt_ids)):
            fits = _tokens_needed([*batch, sequence]) <= self._engine.config.max_position_embeddings
            if batch and (len(batch) == self._max_batch or not fits):
                yield batch
                batch = []
            batch.append(sequence)
        if batch:
            yield batch

    def _batch(self, batch: AbstractSequence[Sequence], longest_burst: int) -> Iterator[list[str]]:
        engine = self._engine
        cache = engine.new_cache(len(batch), _tokens_needed(batch))
        clock = _Clock(engine)
        for sequence in batch:
            sequence.timings = clock.timings
        with clock.prefill() as count:
            engine.prefill(cache, [sequence.prompt_ids for sequence in batch])
            count(sum(len(sequence.prompt_ids) for sequence in batch) - sum(cache.num_reused))
        if any(sequence.options.stop for sequence in batch):
            longest_burst = min(longest_burst, WATCHED_BURST)
        options = [sequence.options.sampling for sequence in batch]
        logprobs = [sequence.options.num_top_logprobs for sequence in batch]
        num_top = max((count for count in logprobs if count is not None), default=None)
        burst = 1
        while remaining := [sequence.remaining for sequence in batch if sequence.remaining]:
            steps = min(burst, max(remaining))
            uniforms = np.stack([sequence.uniforms(steps) for sequence in batch])
            stops = self._shared_stops(batch)
            with clock.decode() as count:
                decoded = engine.decode(cache, steps, options, uniforms, num_top_logprobs=num_top, stop_token_ids=stops)
                count(decoded.token_ids.shape[1])
            yield [sequence.push(decoded, row) for row, sequence in enumerate(batch)]
            burst = min(burst * 2, longest_burst)

    @staticmethod
    def _shared_stops(batch: AbstractSequence[Sequence]) -> tuple[int, ...]:
        """Stop ids that end every sequence of the batch."""
        shared = set(batch[0].options.stop_token_ids)
        for sequence in batch[1:]:
            shared &= set(sequence.options.stop_token_ids)
        return tuple(sorted(shared))


@dataclasses.dataclass
class _Taken:
    """What one call took."""

    tokens: list[int] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    compiled: bool = False


class _Clock:
    """Adds up the timings of one batch; a call that compiled something counts as compilation."""

    def __init__(self, engine: LanguageModel) -> None:
        self.timings = Timings()
        self._engine = engine

    @contextlib.contextmanager
    def prefill(self) -> Iterator[Callable[[int], None]]:
        """Times a prefill; the caller counts the tokens that were computed."""
        with self._measure() as taken:
            yield taken.tokens.append
        if not taken.compiled:
            self.timings.prefill_tokens += sum(taken.tokens)
            self.timings.prefill_seconds += taken.seconds

    @contextlib.contextmanager
    def decode(self) -> Iterator[Callable[[int], None]]:
        """Times one decode call; the caller counts its tokens."""
        with self._measure() as taken:
            yield taken.tokens.append
        if not taken.compiled:
            self.timings.decode_tokens += sum(taken.tokens)
            self.timings.decode_seconds += taken.seconds

    @contextlib.contextmanager
    def _measure(self) -> Iterator[_Taken]:
        taken = _Taken()
        compiled, begin = self._engine.num_compiled(), time.perf_counter()
        yield taken
        taken.seconds = time.perf_counter() - begin
        taken.compiled = self._engine.num_compiled() > compiled
        if taken.compiled:
            self.timings.compile_seconds += taken.seconds


def _tokens_needed(batch: AbstractSequence[Sequence]) -> int:
    """Tokens that a cache row must hold for the whole batch to finish."""
    return max(len(sequence.prompt_ids) for sequence in batch) + max(sequence.limit for sequence in batch)
