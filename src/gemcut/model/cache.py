"""The KV cache of the Keras engines and the sequences it holds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

MIN_CAPACITY = 512


def bucket(count: int, least: int = 1) -> int:
    """The smallest power-of-two multiple of `least` that holds `count`."""
    size = least
    while size < count:
        size *= 2
    return size


@dataclasses.dataclass
class KerasKVCache:
    """Keys and values of B sequences on a Keras backend; see `gemcut.interfaces.KVCache` for the layout.

    Attributes:
        batch_size: B as asked for; the arrays hold `rows` >= B sequences, the rest stays empty.
        capacity: Tokens one sequence may reach.
        layers: (keys, values) of each layer.
        stored: int32 (rows,), tokens whose keys and values are in `layers`.
        last_hidden: (rows, D), hidden state that the next token is chosen from; None once it was.
        pending: int32 (rows,), tokens chosen but not yet in `layers`; None right after a prefill.
        token_ids: Every token of each sequence, in order.
        answer_starts: Where in `token_ids` each sequence's answer began: after its last prefill.
        num_reused: Tokens of each sequence's prompt that another one of its batch, or of the last, computed.
    """

    batch_size: int
    capacity: int
    layers: Any
    stored: np.ndarray
    last_hidden: Any
    pending: np.ndarray | None
    token_ids: list[list[int]]
    answer_starts: list[int]
    num_reused: list[int]

    @property
    def rows(self) -> int:
        """Sequences the arrays hold, a power of two."""
        return len(self.stored)

    @property
    def lengths(self) -> np.ndarray:
        """int32 (B,), tokens of each sequence seen so far."""
        return np.array([len(row) for row in self.token_ids], np.int32)
