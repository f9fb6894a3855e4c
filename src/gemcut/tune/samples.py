"""A training sample: token ids, and which of them the model must learn to write."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """One document of the training data.

    Attributes:
        token_ids: int32 (T,), with BOS at the front, once; lists become arrays.
        is_target: bool (T,), True where the token is one that the model must learn to write.
        source: Where it comes from, as "data.jsonl, line 12".
    """

    token_ids: np.ndarray
    is_target: np.ndarray
    source: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "token_ids", np.asarray(self.token_ids, np.int32))
        object.__setattr__(self, "is_target", np.asarray(self.is_target, np.bool_))
        assert self.token_ids.shape == self.is_target.shape, "a sample has one flag for each token"

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def num_targets(self) -> int:
        """Tokens that are learnt; the first token of a sample follows nothing and cannot be."""
        return int(np.count_nonzero(self.is_target[1:]))

    def digest(self) -> bytes:
        """SHA-256 of what is learnt: equal samples from two places have the same."""
        return hashlib.sha256(self.token_ids.astype("<i4").tobytes() + self.is_target.tobytes()).digest()
