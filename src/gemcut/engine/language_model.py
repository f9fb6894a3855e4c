"""The C++ engine's side of the seam: `interfaces.LanguageModel` on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gemcut.engine.checkpoint import NativeCheckpoint
from gemcut.engine.extension import native
from gemcut.errors import BackendError, ContextLengthError, UsageError
from gemcut.interfaces import (
    Chosen,
    ContinuationScore,
    DecodedTokens,
    LowRankUpdate,
    SamplingOptions,
    Share,
    first_scored,
)

PREFIX_CACHE_BYTES = 512 << 20


class NativeKVCache:
    """Keys and values of B sequences in the engine; see `gemcut.interfaces.KVCache`.

    Attributes:
        batch_size: B.
        capacity: Tokens one sequence may reach.
    """

    def __init__(self, batch: Any, batch_size: int, capacity: int) -> None:
        self._batch = batch
        self.batch_size, self.capacity = batch_size, capacity

    @property
    def token_ids(self) -> list[list[int]]:
        """Every token of each sequence, in order."""
        return self._batch.token_ids

    @property
    def lengths(self) -> np.ndarray:
        """int32 (B,), tokens of each sequence seen so far."""
        return np.array([len(row) for row in self.token_ids], np.int32)

    @property
    def num_bytes(self) -> int:
        """Memory of the keys and values."""
        return self._batch.num_bytes

    @property
    def num_reused(self) -> list[int]:
        """Tokens of each sequence that did not have to be computed: another text of this model began with them."""
        return self._batch.num_reused


class NativeLanguageModel:
    """A decoder on the C++ engine. Threads may share it; their calls take turns.

    Args:
        checkpoint: Its files; they may be closed afterwards.
        dtype: "auto" keeps keys and values in bfloat16, "float32" in float32. Weights stay as they are stored.
        threads: CPU threads; None for every core this process may use.
        layout_folder: Where the packed weights are kept for the next start; None for memory only.
        prefix_cache_bytes: Memory for sequences that have ended. A new prompt with the same beginning goes on from
            them, or from one that is alive; the answer is the same to the last bit. 0: every prompt is computed.
        prompt_lookup: Whether greedy decoding of one sequence tries several tokens at once, taken from the text's own
            past; the answer is the same. None for yes, unless the environment has GEMCUT_PROMPT_LOOKUP=0.
        updates: What an adapter adds to matrices of the layers, by the names of `gemcut.config.parameters`; computed in
            float32 beside the stored weights.

    Attributes:
        config, engine, dtype, device, num_threads: See `gemcut.interfaces.LanguageModel`; `dtype` is how most weights
            are stored, such as "q4_k" or "bfloat16".
        isa: The instruction set that computes.
        weights_bytes: Memory of the packed weights.
        weight_bytes_per_token: What of them is read to decode one token.
        multiply_adds_per_token: Of the matrices for one token, the output head's left out.

    Raises:
        UsageError: a dtype the engine does not have, or no threads.
        BackendError: the memory does not suffice; the message has the numbers.
    """

    engine, device = "native", "cpu"

    def __init__(
        self,
        checkpoint: NativeCheckpoint,
        *,
        dtype: str = "auto",
        threads: int | None = None,
        layout_folder: str | os.PathLike[str] | None = None,
        prefix_cache_bytes: int = PREFIX_CACHE_BYTES,
        prompt_lookup: bool | None = None,
        updates: Mapping[str, LowRankUpdate] | None = None,
    ) -> None:
        if dtype not in ("auto", "float32"):
            raise UsageError(
                f'dtype is {dtype!r}, but engine "native" computes with the weights as they are stored; '
                "expected auto, or float32 for keys and values in float32."
            )
        if threads is not None and threads < 1:
            raise UsageError(f"threads is {threads}, expected at least 1.")
        _check_bytes(prefix_cache_bytes)
        self.config = checkpoint.config
        self._engine: Any = native().Engine(
            checkpoint.handle,
            num_threads=threads or 0,
            float32_cache=dtype == "float32",
            use_layout_cache=layout_folder is not None,
            layout_folder=os.fspath(layout_folder) if layout_folder is not None else "",
            prefix_cache_bytes=prefix_cache_bytes,
            updates=[(name, update.a, update.b, update.scale) for name, update in (updates or {}).items()],
        )
        is_off = os.environ.get("GEMCUT_PROMPT_LOOKUP") == "0"
        self._engine.prompt_lookup = not is_off if prompt_lookup is None else prompt_lookup
        self.dtype: str = self._engine.dtype
        self.num_threads: int = self._engine.num_threads
        self.isa: str = self._engine.isa
        self.weights_bytes: int = self._engine.weight_bytes
        self.weight_bytes_per_token: int = self._engine.weight_bytes_per_token
        self.multiply_adds_per_token: int = self._engine.multiply_adds_per_token

    def num_compiled(self) -> int:
        """See `gemcut.interfaces.LanguageModel.num_compiled`: nothing is compiled while it runs."""
        self._opened()
        return 0

    @property
    def prefix_cache_bytes(self) -> int:
        """Limit of the memory that ended sequences keep; less than before frees at once, and 0 reuses nothing.

        As much memory of theirs again may wait for new sequences. A quarter of it is the most that one sequence keeps
        aside of what its sliding layers overwrite.
        """
        return self._opened().prefix_cache_limit

    @prefix_cache_bytes.setter
    def prefix_cache_bytes(self, limit: int) -> None:
        _check_bytes(limit)
        self._opened().prefix_cache_limit = limit

    @property
    def kept_bytes(self) -> int:
        """Memory that ended sequences keep now."""
        return self._opened().prefix_cache_bytes

    @property
    def prompt_lookup(self) -> bool:
        """Whether greedy decoding of one sequence tries several tokens at once; the answer is the same."""
        return self._opened().prompt_lookup

    @prompt_lookup.setter
    def prompt_lookup(self, is_on: bool) -> None:
        self._opened().prompt_lookup = is_on

    @property
    def lookup_counts(self) -> tuple[int, int]:
        """Tokens that greedy decoding tried ahead since the model was loaded, and those of them that were right."""
        return self._opened().lookup_counts

    def new_cache(self, batch_size: int, max_tokens: int) -> NativeKVCache:
        """See `gemcut.interfaces.LanguageModel.new_cache`."""
        engine = self._opened()
        self._check_context(max_tokens)
        return NativeKVCache(native().Batch(engine, batch_size, max_tokens), batch_size, max_tokens)

    def prefill(self, cache: NativeKVCache, token_ids: Sequence[Sequence[int]]) -> None:
        """See `gemcut.interfaces.LanguageModel.prefill`."""
        self._opened()
        cache._batch.prefill([_as_list(row, self.config.vocab_size) for row in token_ids])

    def decode(
        self,
        cache: NativeKVCache,
        num_steps: int,
        options: Sequence[SamplingOptions],
        uniforms: np.ndarray,
        *,
        num_top_logprobs: int | None = None,
        mask: np.ndarray | None = None,
        stop_token_ids: Sequence[int] = (),
    ) -> DecodedTokens:
        """See `gemcut.interfaces.LanguageModel.decode`."""
        self._opened()
        self._check_decode(cache, num_steps, options, uniforms, mask)
        num_top = -1 if num_top_logprobs is None else num_top_logprobs
        draws = np.ascontiguousarray(uniforms, np.float32)
        allowed = None if mask is None else np.ascontiguousarray(mask, np.bool_)
        arrays = cache._batch.decode(
            num_steps, list(options), draws, num_top, allowed, [int(i) for i in stop_token_ids]
        )
        return DecodedTokens(*arrays)

    def sequence_bytes(self, max_tokens: int) -> int:
        """See `gemcut.interfaces.ContinuousModel.sequence_bytes`."""
        return self._opened().sequence_bytes(max_tokens)

    def new_text(
        self,
        token_ids: Sequence[int],
        max_tokens: int,
        options: SamplingOptions,
        *,
        num_top_logprobs: int | None = None,
        stop_token_ids: Sequence[int] = (),
    ) -> Any:
        """See `gemcut.interfaces.ContinuousModel.new_text`."""
        engine, num_top = self._opened(), -1 if num_top_logprobs is None else num_top_logprobs
        self._check_context(max_tokens)
        row = _as_list(token_ids, self.config.vocab_size)
        return native().Text(engine, row, max_tokens, options, num_top, list(stop_token_ids))

    def run_pass(self, shares: Sequence[Share], num_steps: int = 1) -> list[Chosen]:
        """See `gemcut.interfaces.ContinuousModel.run_pass`."""
        self._opened()
        return [Chosen(*each) for each in native().run_pass(list(shares), num_steps)]

    def save_state(self, cache: NativeKVCache, path: str | os.PathLike[str], row: int = 0) -> None:
        """Write one sequence's tokens, keys and values to a file, for `load_state` in this or another process.

        Raises:
            UsageError: there is no such row, or it is empty.
            BackendError: the disk refuses; what was at `path` before is still there.
        """
        self._opened()
        cache._batch.save_state(row, os.fspath(path))

    def load_state(self, path: str | os.PathLike[str], max_tokens: int) -> NativeKVCache:
        """A cache of one sequence out of a file of `save_state`; it goes on exactly as the saved one would.

        Raises:
            NotFoundError: there is no such file.
            CheckpointError: it is damaged, or of another model, version or dtype of keys and values.
            ContextLengthError: it has more than `max_tokens` tokens, or the model's context is shorter than those.
        """
        return NativeKVCache(self._opened().load_state(os.fspath(path), max_tokens), 1, max_tokens)

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """See `gemcut.interfaces.LanguageModel.logits`."""
        return self._opened().logits(self._whole(token_ids))

    def score(self, token_ids: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """See `gemcut.interfaces.LanguageModel.score`."""
        scored = [row for row in map(self._whole, token_ids) if len(row) > 1]
        values = iter(self._opened().score(scored, [len(row) - 1 for row in scored]))
        return [next(values)[0] if len(row) > 1 else np.zeros(0, np.float32) for row in token_ids]

    def score_continuations(
        self, token_ids: Sequence[Sequence[int]], num_scored: Sequence[int]
    ) -> list[ContinuationScore]:
        """See `gemcut.interfaces.LanguageModel.score_continuations`."""
        first_scored(token_ids, num_scored)
        scores = self._opened().score([self._whole(row) for row in token_ids], list(num_scored))
        return [ContinuationScore(*each) for each in scores]

    def hidden_states(self, token_ids: Sequence[int]) -> np.ndarray:
        """See `gemcut.interfaces.LanguageModel.hidden_states`."""
        return self._opened().hidden_states(self._whole(token_ids))

    def close(self) -> None:
        """Free the weights, and the keys and values of every cache and ended sequence; later calls raise."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def _opened(self) -> Any:
        if self._engine is None:
            raise BackendError("model: it was closed, so its weights are gone. Load it again.")
        return self._engine

    def _whole(self, token_ids: Sequence[int]) -> list[int]:
        """A sequence to compute in one go, checked."""
        self._opened()
        row = _as_list(token_ids, self.config.vocab_size)
        if not row:
            raise UsageError("token_ids: a sequence is empty, expected at least one token.")
        self._check_context(len(row))
        return row

    def _check_context(self, num_tokens: int) -> None:
        limit = self.config.max_position_embeddings
        if num_tokens > limit:
            raise ContextLengthError(f"{num_tokens} tokens were asked for, but the model's context is {limit} tokens.")

    def _check_decode(
        self,
        cache: NativeKVCache,
        num_steps: int,
        options: Sequence[SamplingOptions],
        uniforms: np.ndarray,
        mask: np.ndarray | None,
    ) -> None:
        if num_steps < 1:
            raise UsageError(f"num_steps is {num_steps}, expected at least 1.")
        if mask is not None and num_steps != 1:
            raise UsageError(f"mask: it holds for one step, but num_steps is {num_steps}.")
        rows = cache.batch_size
        shapes: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = [
            ("options", (len(options),), (rows,)),
            ("uniforms", np.shape(uniforms), (rows, num_steps)),
        ]
        if mask is not None:
            shapes.append(("mask", np.shape(mask), (rows, self.config.vocab_size)))
        for name, found, expected in shapes:
            if found != expected:
                raise UsageError(f"{name}: its shape is {found}, expected {expected}.")
        lengths = cache.lengths
        if not lengths.all():
            raise UsageError("cache: a sequence is empty; prefill at least one token before decoding.")
        longest = int(lengths.max(initial=0)) + num_steps
        if longest > cache.capacity:
            raise ContextLengthError(f"a sequence of {longest} tokens does not fit the cache of {cache.capacity}.")


def _check_bytes(limit: int) -> None:
    if limit < 0:
        raise UsageError(f"prefix_cache_bytes is {limit}, expected at least 0.")


def _as_list(token_ids: Sequence[int], vocab_size: int) -> list[int]:
    """Token ids as plain integers, each in the vocabulary."""
    row = np.asarray(token_ids, np.int64).reshape(-1)
    wrong = row[(row < 0) | (row >= vocab_size)]
    if len(wrong):
        raise UsageError(f"token_ids: {wrong[0]} is not a token id, expected 0 to {vocab_size - 1}.")
    return row.tolist()
