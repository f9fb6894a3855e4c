"""What several texts begin with, computed once: a sequence from which others branch off."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from gemcut.model.cache import KerasKVCache, bucket

MIN_SHARED_TOKENS = 16  # of a beginning that is worth a cache of its own
MIN_MORE_TOKENS = 64  # by which a known one must be longer to be worth a change: the next texts may share less


class SharedStart:
    """Keeps the beginning that the last texts had in common.

    Args:
        new_cache: Makes an empty cache of one sequence with room for so many tokens.
        append: Computes tokens of that sequence.
    """

    def __init__(
        self, new_cache: Callable[[int], KerasKVCache], append: Callable[[KerasKVCache, list[int]], None]
    ) -> None:
        self._new_cache, self._append = new_cache, append
        self._known: KerasKVCache | None = None

    def of(self, beginnings: Sequence[Sequence[int]], capacity: int) -> tuple[KerasKVCache, int]:
        """A cache of one sequence with what all beginnings have in common, or nearly so much, or nothing.

        Args:
            beginnings: Parts of texts that may be shared; at least one.
            capacity: What the cache must have room for, rounded up as caches are.

        Returns:
            The cache, to branch from and not to change; and how many of its tokens were computed just now.
        """
        shared = common_beginning(beginnings)
        if len(shared) < MIN_SHARED_TOKENS:
            shared = []
        known = self._known
        tokens = known.token_ids[0] if known is not None else []
        if known is None or known.capacity != capacity or shared[: len(tokens)] != tokens:
            known, tokens = self._new_cache(capacity), []
        least = MIN_MORE_TOKENS if tokens else MIN_SHARED_TOKENS
        more = shared[len(tokens) :] if len(shared) - len(tokens) >= least else []
        self._known = None  # lest a failure leaves half of it
        if more:
            self._append(known, more)
        self._known = known
        return known, len(more)


def common_beginning(texts: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that all texts begin with."""
    lists = [list(text) for text in texts]
    low, high = min(lists), max(lists)  # what these two share, all between them do
    pairs = zip(low, high, strict=False)
    return low[: next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(low), len(high)))]


def branched(cache: KerasKVCache, origins: Sequence[int], no_hidden: Callable[[int], Any]) -> KerasKVCache:
    """A cache whose row i goes on from row `origins[i]` of another, which stays as it is.

    The copies are memory of their own: a runner may write into them, or give them away.

    Args:
        cache: Sequences of which no token was chosen but not stored.
        origins: Row numbers; any may occur often.
        no_hidden: Makes the last hidden states of so many rows.
    """
    rows = bucket(len(origins))
    places = np.zeros(rows, np.int32)
    places[: len(origins)] = origins
    stored = np.zeros(rows, np.int32)
    stored[: len(origins)] = cache.stored[places[: len(origins)]]
    return dataclasses.replace(
        cache,
        batch_size=len(origins),
        layers=keras.tree.map_structure(lambda array: keras.ops.take(array, places, axis=0), cache.layers),
        stored=stored,
        last_hidden=no_hidden(rows),
        token_ids=[list(cache.token_ids[origin]) for origin in origins],
        answer_starts=[0] * len(origins),
        num_reused=[0] * len(origins),
    )
