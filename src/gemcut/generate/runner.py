"""How an engine is driven: texts that join and leave at any pass, or groups that begin and end together."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as AbstractSequence
from typing import Any, Protocol

import numpy as np

from gemcut.generate.sequence import Sequence
from gemcut.interfaces import Chosen, ContinuousModel, DecodedTokens, LanguageModel, RunningText, Share, Timings

Part = tuple[Sequence, int]  # a sequence, and how many of its waiting tokens may be computed


class Runner(Protocol):
    """What the scheduler asks of an engine. Sequences begin, run, and leave."""

    @property
    def is_continuous(self) -> bool:
        """Whether sequences join and leave at any pass, and their prompts may come in parts."""

    @property
    def shares_prompts(self) -> bool:
        """Whether a sequence that begins takes over what others have computed of the same beginning."""

    def sequence_bytes(self, sequence: Sequence) -> int:
        """Memory that its keys and values may come to need."""

    def admits(self, sequence: Sequence) -> bool:
        """Whether it may begin beside those that run now."""

    def begin(self, sequence: Sequence) -> None:
        """Make room for a sequence; nothing is computed yet."""

    def leave(self, sequence: Sequence) -> None:
        """Give the room of a sequence back."""

    def num_waiting(self, sequence: Sequence) -> int:
        """Tokens to compute before its next one can be chosen; at least 1."""

    def run(self, parts: AbstractSequence[Part], num_steps: int) -> None:
        """Compute, and hand each sequence its new tokens.

        Args:
            parts: Those that take part; on an engine that is not continuous, all that run.
            num_steps: Tokens to choose for each; 1 unless all have one token waiting and none is masked.
        """


def runner_for(model: LanguageModel) -> Runner:
    """The runner that suits an engine."""
    return ContinuousRunner(model) if isinstance(model, ContinuousModel) else BatchRunner(model)


class ContinuousRunner:
    """Drives an engine whose texts join and leave at any pass."""

    is_continuous = True

    def __init__(self, model: ContinuousModel) -> None:
        self._model = model
        self._texts: dict[Sequence, RunningText] = {}
        self._answering: set[Sequence] = set()  # those whose prompt is done

    @property
    def shares_prompts(self) -> bool:
        """See `Runner`."""
        return self._model.prefix_cache_bytes > 0

    def sequence_bytes(self, sequence: Sequence) -> int:
        """See `Runner.sequence_bytes`."""
        return self._model.sequence_bytes(len(sequence.prompt_ids) + sequence.limit)

    def admits(self, sequence: Sequence) -> bool:
        """See `Runner.admits`."""
        return True

    def begin(self, sequence: Sequence) -> None:
        """See `Runner.begin`."""
        options = sequence.options
        self._texts[sequence] = text = self._model.new_text(
            sequence.prompt_ids,
            len(sequence.prompt_ids) + sequence.limit,
            options.sampling,
            num_top_logprobs=options.num_top_logprobs,
            stop_token_ids=options.stop_token_ids,
        )
        sequence.num_reused = text.num_reused
        self._skip_ahead(sequence)

    def leave(self, sequence: Sequence) -> None:
        """See `Runner.leave`."""
        self._texts.pop(sequence, None)
        self._answering.discard(sequence)

    def num_waiting(self, sequence: Sequence) -> int:
        """See `Runner.num_waiting`."""
        return self._texts[sequence].num_waiting

    def run(self, parts: AbstractSequence[Part], num_steps: int) -> None:
        """See `Runner.run`."""
        shares = {}
        for sequence, count in parts:
            share = self._share(sequence, count, num_steps)
            if not sequence.finish_reason:  # its constraint may just have failed
                shares[sequence] = share
        waiting = [share.text.num_waiting for share in shares.values()]
        begin = time.perf_counter()
        chosen = self._model.run_pass(list(shares.values()), num_steps) if shares else []
        seconds = time.perf_counter() - begin
        for (sequence, share), before, new in zip(shares.items(), waiting, chosen, strict=True):
            num_generated = sequence.num_generated
            if new.token_ids:
                sequence.push(new)
                self._skip_ahead(sequence)
            self._note_time(sequence, min(before, share.max_tokens), sequence.num_generated - num_generated, seconds)

    def _note_time(self, sequence: Sequence, num_computed: int, num_generated: int, seconds: float) -> None:
        """A pass belongs to the prompt until the first token has come."""
        timings = sequence.timings
        if sequence in self._answering:
            timings.decode_tokens += num_generated
            timings.decode_seconds += seconds
            return
        timings.prefill_tokens += num_computed
        timings.prefill_seconds += seconds
        if num_generated:
            self._answering.add(sequence)

    def _share(self, sequence: Sequence, count: int, num_steps: int) -> Share:
        share = Share(self._texts[sequence], count)
        if count >= share.text.num_waiting:
            if sequence.options.sampling.temperature > 0:
                share.uniforms = sequence.uniforms(num_steps)
            share.allowed = sequence.allowed(self._model.config.vocab_size, has_skipped=True)
        return share

    def _skip_ahead(self, sequence: Sequence) -> None:
        token_ids = sequence.skip_ahead()
        if token_ids and not sequence.finish_reason:
            self._texts[sequence].append(token_ids)


class BatchRunner:
    """Drives an engine that computes groups of sequences, each of which gets the same number of tokens.

    A group is closed once it runs; a sequence that has ended is computed on until the last one has.
    """

    is_continuous = shares_prompts = False

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._group: list[Sequence] = []
        self._left: set[Sequence] = set()
        self._cache: Any = None
        self._clock = _Clock(model)

    def sequence_bytes(self, sequence: Sequence) -> int:
        """See `Runner.sequence_bytes`; a reckoning in the compute type, which the engine's rounding may exceed."""
        config, tokens = self._model.config, len(sequence.prompt_ids) + sequence.limit
        number_bytes = 4 if self._model.dtype == "float32" else 2
        return 2 * number_bytes * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * tokens

    def admits(self, sequence: Sequence) -> bool:
        """See `Runner.admits`: a finished row grows with its group, which must fit the context too."""
        fits = _tokens_needed([*self._group, sequence]) <= self._model.config.max_position_embeddings
        return self._cache is None and (fits or not self._group)

    def begin(self, sequence: Sequence) -> None:
        """See `Runner.begin`."""
        self._group.append(sequence)

    def leave(self, sequence: Sequence) -> None:
        """See `Runner.leave`."""
        self._left.add(sequence)
        if self._cache is None and sequence in self._group:
            self._group.remove(sequence)
        if self._left.issuperset(self._group):
            self._group, self._left, self._cache = [], set(), None

    def num_waiting(self, sequence: Sequence) -> int:
        """See `Runner.num_waiting`."""
        return len(sequence.prompt_ids) if self._cache is None else 1

    def run(self, parts: AbstractSequence[Part], num_steps: int) -> None:
        """See `Runner.run`."""
        if self._cache is None:
            self._prefill()
        group, steps = self._group, num_steps
        masks = self._masks()
        num_top = max((n for each in group if (n := each.options.num_top_logprobs) is not None), default=None)
        with self._clock.decode() as count:
            decoded = self._model.decode(
                self._cache,
                steps,
                [sequence.options.sampling for sequence in group],
                np.stack([sequence.uniforms(steps) for sequence in group]),
                num_top_logprobs=num_top,
                mask=masks,
                stop_token_ids=sorted(set.intersection(*[set(each.options.stop_token_ids) for each in group])),
            )
            count(decoded.token_ids.shape[1])
        rows = {sequence: row for row, sequence in enumerate(group)}
        for sequence, _ in parts:
            sequence.push(_row_of(decoded, rows[sequence]))

    def _prefill(self) -> None:
        group, self._clock = self._group, _Clock(self._model)
        self._cache = self._model.new_cache(len(group), _tokens_needed(group))
        with self._clock.prefill() as count:
            self._model.prefill(self._cache, [sequence.prompt_ids for sequence in group])
            count(sum(len(sequence.prompt_ids) for sequence in group) - sum(self._cache.num_reused))
        for sequence, num_reused in zip(group, self._cache.num_reused, strict=True):
            sequence.timings, sequence.num_reused = self._clock.timings, num_reused

    def _masks(self) -> np.ndarray | None:
        """The tokens that may come next in each row, bool (B, V); None where all may in every one."""
        vocab_size = self._model.config.vocab_size
        words = [None if sequence.finish_reason else sequence.allowed(vocab_size) for sequence in self._group]
        if all(row is None for row in words):
            return None
        masks = np.ones((len(words), vocab_size), np.bool_)
        for mask, row in zip(masks, words, strict=True):
            if row is not None and row.any():  # one whose constraint has failed goes on as it likes, unseen
                mask[:] = np.unpackbits(row.view(np.uint8), bitorder="little")[:vocab_size]
        return masks


def _row_of(decoded: DecodedTokens, row: int) -> Chosen:
    """What a batch gave one of its rows."""
    token_ids = decoded.token_ids[row].tolist()
    logprobs = None if decoded.logprobs is None else decoded.logprobs[row].tolist()
    if decoded.top_token_ids is None or decoded.top_logprobs is None:
        return Chosen(token_ids, logprobs)
    steps = zip(decoded.top_token_ids[row].tolist(), decoded.top_logprobs[row].tolist(), strict=True)
    return Chosen(token_ids, logprobs, [list(zip(*step, strict=True)) for step in steps])


def _tokens_needed(group: AbstractSequence[Sequence]) -> int:
    """Tokens that a cache row must hold for the whole group to finish."""
    return max(len(sequence.prompt_ids) for sequence in group) + max(sequence.limit for sequence in group)


@dataclasses.dataclass
class _Taken:
    """What one call took."""

    tokens: list[int] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    compiled: bool = False


class _Clock:
    """Adds up the timings of one group; a call that compiled something counts as compilation."""

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
