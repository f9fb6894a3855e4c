"""The Keras engines' side of the seam: `interfaces.LanguageModel` on JAX, PyTorch or TensorFlow."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from gemcut.errors import BackendError, ContextLengthError, UsageError
from gemcut.interfaces import ContinuationScore, DecodedTokens, SamplingOptions, first_scored
from gemcut.model.cache import MIN_CAPACITY, KerasKVCache, bucket
from gemcut.model.decoder import Decoder
from gemcut.model.sampling import SamplingVariant, sampling_arrays
from gemcut.model.shared_start import SharedStart, branched

CHUNK_TOKENS = {"cpu": 512}  # longest prefill chunk; accelerators take OTHER_CHUNK_TOKENS
OTHER_CHUNK_TOKENS = 2048
MIN_CHUNK_TOKENS = 16
SCORED_TEXTS = 32  # computed together
SCORED_ROWS = 128  # rows of logits computed at once: 128 MiB in float32 for a vocabulary of 262,144

Chunk = tuple[Any, np.ndarray, np.ndarray]  # hidden states (rows, T, D); starts and counts (rows,) of what they are of


class KerasLanguageModel:
    """A decoder on the Keras backend of this process.

    Args:
        decoder: The model with its weights.
        runner: The backend's runner; None makes the default one.

    Attributes:
        config, engine, dtype, device: See `gemcut.interfaces.LanguageModel`.
        keras_model: The Keras model.
    """

    def __init__(self, decoder: Decoder, runner: Any = None) -> None:
        self.config = decoder.config
        self.engine = keras.backend.backend()
        self.dtype = str(decoder.compute_dtype)
        module = importlib.import_module(f"gemcut.model.runner_{self.engine}")
        self._runner: Any = runner or module.Runner(decoder)
        self._decoder: Decoder | None = decoder
        self.device: str = self._runner.device
        self.num_threads: int = self._runner.num_threads
        self._start = SharedStart(self._new_alone, self._append_alone)
        self._chunk_tokens = CHUNK_TOKENS.get(self.device, OTHER_CHUNK_TOKENS)

    @property
    def keras_model(self) -> Decoder:
        """The Keras model that owns the weights."""
        if self._decoder is None:
            raise BackendError("model: it was closed, so its weights are gone. Load it again.")
        return self._decoder

    def num_compiled(self) -> int:
        """See `gemcut.interfaces.LanguageModel.num_compiled`."""
        self._check_open()
        return int(self._runner.num_compiled())

    def free_bytes(self) -> int | None:
        """Memory that an accelerator has left; None on the CPU, and where it does not tell."""
        self._check_open()
        found: int | None = self._runner.free_bytes()
        return found

    def new_cache(self, batch_size: int, max_tokens: int) -> KerasKVCache:
        """See `gemcut.interfaces.LanguageModel.new_cache`; both numbers are rounded up to compiled sizes."""
        self._check_open()
        rows, capacity = bucket(batch_size), self._capacity(max_tokens)
        return KerasKVCache(
            batch_size=batch_size,
            capacity=capacity,
            layers=self._runner.new_layers(rows, capacity),
            stored=np.zeros(rows, np.int32),
            last_hidden=self._runner.no_hidden(rows),
            pending=None,
            token_ids=[[] for _ in range(batch_size)],
            answer_starts=[0] * batch_size,
            num_reused=[0] * batch_size,
        )

    def _capacity(self, max_tokens: int) -> int:
        """Tokens that a cache for so many has room for: a compiled size.

        Raises:
            ContextLengthError: the model takes fewer.
        """
        limit = self.config.max_position_embeddings
        if max_tokens > limit:
            raise ContextLengthError(f"{max_tokens} tokens were asked for, but the model's context is {limit} tokens.")
        return min(bucket(max_tokens, MIN_CAPACITY), bucket(limit))

    def prefill(self, cache: KerasKVCache, token_ids: Sequence[Sequence[int]]) -> None:
        """See `gemcut.interfaces.LanguageModel.prefill`; what new sequences all begin with is computed once."""
        self._check_open()
        rows = self._checked_rows(cache, token_ids)
        if cache.batch_size > 1 and not cache.lengths.any() and all(rows):
            rows = self._after_start(cache, rows)
        for _ in self._prefill_chunks(cache, rows):
            pass  # only the cache matters here, not the hidden states
        self._runner.wait(cache.last_hidden)

    def _after_start(self, cache: KerasKVCache, rows: list[list[int]]) -> list[list[int]]:
        """What of new sequences is left to compute once each has what all begin with; the last token is always left."""
        start, num_new = self._start.of([row[:-1] for row in rows], cache.capacity)
        known = start.token_ids[0]
        if known:
            branch = branched(start, [0] * cache.batch_size, self._runner.no_hidden)
            cache.layers, cache.stored, cache.token_ids = branch.layers, branch.stored, branch.token_ids
            cache.num_reused = [len(known) - num_new, *[len(known)] * (cache.batch_size - 1)]
        return [row[len(known) :] for row in rows]

    def _new_alone(self, capacity: int) -> KerasKVCache:
        """An empty cache of one sequence, as large as others of that capacity."""
        return self.new_cache(1, min(capacity, self.config.max_position_embeddings))

    def _append_alone(self, cache: KerasKVCache, token_ids: list[int]) -> None:
        """Compute tokens of a cache of one sequence."""
        for _ in self._prefill_chunks(cache, [token_ids]):
            pass

    def decode(
        self,
        cache: KerasKVCache,
        num_steps: int,
        options: Sequence[SamplingOptions],
        uniforms: np.ndarray,
        *,
        num_top_logprobs: int | None = None,
        mask: np.ndarray | None = None,
        stop_token_ids: Sequence[int] = (),
    ) -> DecodedTokens:
        """See `gemcut.interfaces.LanguageModel.decode`."""
        self._check_decode(cache, num_steps, mask)
        variant = SamplingVariant.of(options, num_top_logprobs, mask is not None)
        padded = [*options, *[SamplingOptions()] * (cache.rows - cache.batch_size)]
        draws = np.zeros((cache.rows, num_steps), np.float32)
        draws[: cache.batch_size] = uniforms
        parts: list[list[np.ndarray]] = []
        made, stopped = 0, np.zeros(cache.batch_size, bool)
        while made < num_steps and not stopped.all():
            arrays = self._arrays(cache, padded, variant, mask)
            if cache.pending is None:
                outputs = self._runner.first(cache.last_hidden, arrays, draws[:, made], variant)
                outputs = [output[:, None] for output in outputs]
                cache.last_hidden = None
            else:
                end = min(num_steps, made + self._runner.max_burst)
                cache.layers, outputs = self._runner.burst(
                    cache.layers,
                    cache.pending,
                    cache.stored,
                    draws[:, made:end],
                    tuple(stop_token_ids),
                    arrays,
                    variant,
                )
                cache.stored[: cache.batch_size] += outputs[0].shape[1]
            self._append(cache, outputs[0])
            stopped |= np.isin(outputs[0][: cache.batch_size], list(stop_token_ids)).any(axis=1)
            made += outputs[0].shape[1]
            parts.append(outputs)
        joined = [np.concatenate(column, axis=1)[: cache.batch_size] for column in zip(*parts, strict=True)]
        return DecodedTokens(*joined)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """See `gemcut.interfaces.LanguageModel.logits`."""
        parts = []
        for hidden, starts, counts in self._hidden_chunks([token_ids]):
            del starts
            for rows in _row_groups(np.arange(counts[0])):
                parts.append(self._runner.logit_rows(hidden, _padded(rows))[: len(rows)])
        return np.concatenate(parts)

    def score(self, token_ids: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """See `gemcut.interfaces.LanguageModel.score`."""
        chunks = self._hidden_chunks(token_ids)
        return [scored.logprobs for scored in self._scores(chunks, token_ids, [1] * len(token_ids))]

    def score_continuations(
        self, token_ids: Sequence[Sequence[int]], num_scored: Sequence[int]
    ) -> list[ContinuationScore]:
        """See `gemcut.interfaces.LanguageModel.score_continuations`; what all of a call share is computed once."""
        firsts = first_scored(token_ids, num_scored)
        if not firsts:
            return []
        capacity = self._capacity(max(len(row) for row in token_ids))
        start, _ = self._start.of([row[: first - 1] for row, first in zip(token_ids, firsts, strict=True)], capacity)
        scores: list[ContinuationScore] = []
        for begin in range(0, len(token_ids), SCORED_TEXTS):
            group = slice(begin, begin + SCORED_TEXTS)
            cache = self._after_contexts(start, token_ids[group], firsts[group])
            rests = [row[len(known) : -1] for row, known in zip(token_ids[group], cache.token_ids, strict=True)]
            scores += self._scores(self._prefill_chunks(cache, rests), token_ids[group], firsts[group])
        return scores

    def _after_contexts(
        self, start: KerasKVCache, token_ids: Sequence[Sequence[int]], firsts: Sequence[int]
    ) -> KerasKVCache:
        """A cache of texts that go on from `start`; with all before the scored tokens, where several share that."""
        num_known = len(start.token_ids[0])
        contexts = [tuple(row[num_known : first - 1]) for row, first in zip(token_ids, firsts, strict=True)]
        places = {context: place for place, context in enumerate(dict.fromkeys(contexts))}
        if len(places) == len(contexts):
            return branched(start, [0] * len(contexts), self._runner.no_hidden)
        cache = branched(start, [0] * len(places), self._runner.no_hidden)
        for _ in self._prefill_chunks(cache, list(places)):
            pass
        return branched(cache, [places[context] for context in contexts], self._runner.no_hidden)

    def _scores(
        self, chunks: Iterator[Chunk], token_ids: Sequence[Sequence[int]], firsts: Sequence[int]
    ) -> list[ContinuationScore]:
        """Scores of each text's tokens from number `firsts[i]` on, out of all hidden states that precede them."""
        scores = [np.zeros(max(len(row) - first, 0), np.float32) for row, first in zip(token_ids, firsts, strict=True)]
        greedy = [True] * len(token_ids)
        for hidden, starts, counts in chunks:
            width = hidden.shape[1]
            places = [
                (row, target, row * width + target - 1 - int(starts[row]))
                for row, first in enumerate(firsts)
                for target in range(
                    max(first, int(starts[row]) + 1), min(int(starts[row] + counts[row]) + 1, len(token_ids[row]))
                )
            ]
            for group in _row_groups(np.arange(len(places))):
                chosen = [places[index] for index in group]
                targets = np.array([token_ids[row][target] for row, target, _ in chosen], np.int32)
                rows = np.array([flat for _, _, flat in chosen], np.int32)
                values = self._runner.score_rows(hidden, _padded(rows), _padded(targets))
                for (row, target, _), logprob, is_best in zip(chosen, *values, strict=False):
                    scores[row][target - firsts[row]] = logprob
                    greedy[row] &= bool(is_best)
        return [ContinuationScore(*each) for each in zip(scores, greedy, strict=True)]

    def hidden_states(self, token_ids: Sequence[int]) -> np.ndarray:
        """See `gemcut.interfaces.LanguageModel.hidden_states`."""
        chunks = self._hidden_chunks([token_ids])
        return np.concatenate([self._runner.to_numpy(hidden[0, : counts[0]]) for hidden, _, counts in chunks])

    def close(self) -> None:
        """Free the weights; later calls raise."""
        self._decoder = self._runner = None
        self._start = SharedStart(self._new_alone, self._append_alone)

    def _hidden_chunks(self, token_ids: Sequence[Sequence[int]]) -> Iterator[Chunk]:
        longest = max((len(row) for row in token_ids), default=0)
        if min((len(row) for row in token_ids), default=0) < 1:
            raise UsageError("token_ids: a sequence is empty, expected at least one token.")
        return self._prefill_chunks(self.new_cache(len(token_ids), longest), token_ids)

    def _prefill_chunks(self, cache: KerasKVCache, token_ids: Sequence[Sequence[int]]) -> Iterator[Chunk]:
        """Prefill chunk by chunk; yields hidden states (rows, T, D), starts and counts (rows,) of each."""
        self._check_open()
        rows = self._checked_rows(cache, token_ids)
        for index, row in enumerate(rows):
            cache.token_ids[index] += row
            if row:
                cache.answer_starts[index] = len(cache.token_ids[index])
        if cache.pending is not None:  # chosen tokens enter the cache with what follows them
            rows = [[int(token), *row] for token, row in zip(cache.pending, rows, strict=False)]
            cache.last_hidden, cache.pending = self._runner.no_hidden(cache.rows), None
        longest = max((len(row) for row in rows), default=0)
        for begin in range(0, longest, self._chunk_tokens):
            chunk = [row[begin : begin + self._chunk_tokens] for row in rows]
            counts = np.zeros(cache.rows, np.int32)
            counts[: len(chunk)] = [len(row) for row in chunk]
            padded = np.zeros((cache.rows, bucket(int(counts.max()), MIN_CHUNK_TOKENS)), np.int32)
            for index, row in enumerate(chunk):
                padded[index, : len(row)] = row
            starts = cache.stored.copy()
            cache.layers, hidden, cache.last_hidden = self._runner.prefill(
                cache.layers, padded, starts, counts, cache.last_hidden
            )
            cache.stored += counts
            yield hidden, starts, counts

    def _checked_rows(self, cache: KerasKVCache, token_ids: Sequence[Sequence[int]]) -> list[list[int]]:
        if len(token_ids) != cache.batch_size:
            raise UsageError(f"token_ids: {len(token_ids)} sequences for a cache of {cache.batch_size}.")
        rows = [list(map(int, row)) for row in token_ids]
        for known, row in zip(cache.token_ids, rows, strict=True):
            wrong = next((token for token in row if not 0 <= token < self.config.vocab_size), None)
            if wrong is not None:
                raise UsageError(f"token_ids: {wrong} is not a token id, expected 0 to {self.config.vocab_size - 1}.")
            total = len(known) + len(row)
            if total > cache.capacity:
                raise ContextLengthError(f"a sequence of {total} tokens does not fit the cache of {cache.capacity}.")
        return rows

    def _check_decode(self, cache: KerasKVCache, num_steps: int, mask: np.ndarray | None) -> None:
        self._check_open()
        if num_steps < 1:
            raise UsageError(f"num_steps is {num_steps}, expected at least 1.")
        if mask is not None and num_steps != 1:
            raise UsageError(f"mask: it holds for one step, but num_steps is {num_steps}.")
        if not cache.lengths.all():
            raise UsageError("cache: a sequence is empty; prefill at least one token before decoding.")
        longest = int(cache.lengths.max()) + num_steps
        if longest > cache.capacity:
            raise ContextLengthError(f"a sequence of {longest} tokens does not fit the cache of {cache.capacity}.")

    def _arrays(
        self, cache: KerasKVCache, options: Sequence[SamplingOptions], variant: SamplingVariant, mask: Any
    ) -> dict[str, np.ndarray]:
        empty: list[list[int]] = [[]] * (cache.rows - cache.batch_size)
        answered = [row[start:] for row, start in zip(cache.token_ids, cache.answer_starts, strict=True)]
        if mask is not None and cache.rows > cache.batch_size:
            filler = np.ones((cache.rows - cache.batch_size, mask.shape[1]), bool)
            mask = np.concatenate([mask, filler])
        return sampling_arrays(
            options, variant, self.config.vocab_size, [*cache.token_ids, *empty], [*answered, *empty], mask
        )

    def _append(self, cache: KerasKVCache, token_ids: np.ndarray) -> None:
        cache.pending = np.ascontiguousarray(token_ids[:, -1], np.int32)
        for index in range(cache.batch_size):
            cache.token_ids[index] += token_ids[index].tolist()

    def _check_open(self) -> None:
        if self._runner is None:
            raise BackendError("model: it was closed, so its weights are gone. Load it again.")


def _row_groups(rows: np.ndarray) -> Iterator[np.ndarray]:
    """`rows` in groups of at most SCORED_ROWS."""
    for begin in range(0, len(rows), SCORED_ROWS):
        yield rows[begin : begin + SCORED_ROWS]


def _padded(values: np.ndarray) -> np.ndarray:
    """`values` as int32, padded with zeros to SCORED_ROWS, so that one compiled shape serves all."""
    padded = np.zeros(SCORED_ROWS, np.int32)
    padded[: len(values)] = values
    return padded
