"""Cross-entropy over a large vocabulary, with its gradients, without ever holding the logits of all tokens.

The loss is where hidden states meet the output head, whose rows outnumber everything else. Both forms here give the
summed loss and its gradients in one go, so backpropagation begins at the hidden states and nothing of the size
(tokens, vocabulary) is kept for it. The caller gathers the positions at which something is learnt first; the others
cost nothing.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from typing import Any, Protocol

import numpy as np
from keras import ops

from gemcut.model.leaf_ops import LeafOps

Tensor = Any
State = tuple[Tensor, ...]

VOCABULARY_BLOCK = 4096  # rows of the head at a time: a block of logits stays in the processor's cache
ROW_CHUNK = 128  # rows at a time where shapes are compiled; the last chunk of a batch is filled up
LOWEST, TINY = -3.0e38, 1e-37  # below every logit, above zero; both normal numbers in float32


class HeadOps(abc.ABC):
    """What a backend may do its own way here."""

    trained_chunk_rows: int = ROW_CHUNK

    def hide_targets(self, logits: Tensor, columns: Tensor) -> Tensor:
        """float32 logits (P, R) with each row's own column as low as can be.

        Args:
            logits: Their storage may be reused.
            columns: int32 (P,); where it is not in [0, R), nothing is hidden.
        """
        own = ops.arange(logits.shape[1], dtype="int32")[None, :] == columns[:, None]
        return ops.where(own, LOWEST, logits)

    def exponentials(self, logits: Tensor, highest: Tensor) -> Tensor:
        """exp(logits - highest); the storage of `logits` may be reused."""
        return ops.exp(logits - highest)

    def add(self, total: Tensor, part: Tensor) -> Tensor:
        """The sum; the storage of `total` may be reused."""
        return total + part

    @abc.abstractmethod
    def add_rows(self, matrix: Tensor, ids: Tensor, rows: Tensor) -> Tensor:
        """The matrix (V, D) with rows (P, D) added at ids (P,), which may repeat; its storage may be reused."""


class VocabularyShare(Protocol):
    """Where each device has some rows of the head only, and all see the same hidden states."""

    @property
    def offset(self) -> Tensor:
        """The first row of this device."""

    def total(self, x: Tensor) -> Tensor:
        """The sum over all devices."""

    def highest(self, x: Tensor) -> Tensor:
        """The maximum over all devices."""


@dataclasses.dataclass(frozen=True)
class LearntRows:
    """The positions of a batch at which something is learnt.

    Attributes:
        rows: int32 (P,), indices into the flattened (B * T,) positions; 0 where it is only filled up.
        ids: int32 (P,), the id that must follow each; -1 where it is only filled up.
        num_targets: How many are real; they come first.
    """

    rows: np.ndarray
    ids: np.ndarray
    num_targets: int

    @classmethod
    def of(cls, targets: np.ndarray, multiple: int | None = None) -> LearntRows:
        """Of the targets (B, T) of a batch.

        Args:
            targets: -1 where nothing is learnt.
            multiple: P is B * T rounded up to a multiple of this, so that every batch has one shape; None for as
                many as there are targets, but at least 1.
        """
        flat = targets.reshape(-1)
        [found] = np.nonzero(flat >= 0)
        size = max(1, len(found)) if multiple is None else -(-len(flat) // multiple) * multiple
        rows, ids = np.zeros(size, np.int32), np.full(size, -1, np.int32)
        rows[: len(found)], ids[: len(found)] = found, flat[found]
        return cls(rows, ids, len(found))


def frozen_head_loss(
    hidden: Tensor,
    head: Tensor,
    ids: Tensor,
    softcap: float | None,
    leaf: LeafOps,
    backend: HeadOps,
    *,
    with_gradient: bool = True,
    num_chunks: Tensor | None = None,
    share: VocabularyShare | None = None,
) -> tuple[Tensor, Tensor]:
    """The summed loss, and its gradient by the hidden states, in one pass over the vocabulary.

    The gradient of a row is the mean of the head's rows by their probabilities, less the target's row: an attention
    of the hidden state over the vocabulary. So it is computed as attention is, block by block with a running maximum,
    and each block of the head is multiplied twice while its logits are in the cache. The target's own part stays
    outside the sums: near certainty it would cancel there, and in bfloat16 leave nothing but noise.

    Args:
        hidden: (P, D), in the type of `head`.
        head: (V, D), V at least 2.
        ids: int32 (P,); rows below 0 count for nothing.
        softcap: c in c * tanh(logits / c); None for none.
        leaf: The backend's leaf operations.
        backend: The backend's operations of this file.
        with_gradient: False leaves the gradient at zero.
        num_chunks: Only the first so many chunks of ROW_CHUNK rows are computed, where shapes are compiled and P is
            larger than what is there; None computes all rows at once.
        share: Which rows of the vocabulary `head` is; None for all.

    Returns:
        float32 sum of -log p(ids), and float32 (P, D); with a `share` the gradient is a part, to be added up.

    Source: the running maximum is that of FlashAttention, arXiv:2205.14135, section 3.1.
    """
    num_rows, width = ops.shape(hidden)  # on TensorFlow the first may be known in the run only
    vocab_size = head.shape[0]
    block = min(VOCABULARY_BLOCK, vocab_size)
    columns = ids if share is None else ids - share.offset
    absorb = functools.partial(_absorb, softcap=softcap, leaf=leaf, backend=backend, with_gradient=with_gradient)

    def absorb_block(first: Any, rows: Tensor, state: State) -> State:
        if num_chunks is None:
            return absorb(hidden, columns - first, rows, state)

        def absorb_chunk(index: Any, state: State) -> State:
            begin = index * ROW_CHUNK
            parts = [_rows(each, begin, ROW_CHUNK) for each in (hidden, columns - first, *state)]
            new = absorb(parts[0], parts[1], rows, tuple(parts[2:]))
            return tuple(ops.slice_update(old, (begin, 0), part) for old, part in zip(state, new, strict=True))

        return ops.fori_loop(0, num_chunks, absorb_chunk, state)

    def step(index: Any, state: State) -> State:
        return absorb_block(index * block, ops.slice(head, (index * block, 0), (block, width)), state)

    num_blocks = vocab_size // block
    state: State = (
        ops.full((num_rows, 1), LOWEST, "float32"),
        ops.zeros((num_rows, 1), "float32"),
        ops.zeros((num_rows, width if with_gradient else 0), "float32"),
    )
    state = ops.fori_loop(0, num_blocks, step, state)
    if num_blocks * block < vocab_size:
        state = absorb_block(num_blocks * block, head[num_blocks * block :], state)
    peak, total, mixed = state
    if share is not None:
        highest = share.highest(peak)
        decay = ops.exp(peak - highest)
        peak, total, mixed = highest, share.total(total * decay), mixed * decay
    total = ops.maximum(total, TINY)  # rows that no chunk reached
    loss, missed, target_rows, pull = _settled(hidden, head, ids, peak + ops.log(total), softcap, share)
    if not with_gradient:
        return loss, mixed
    return loss, mixed * (missed / total) - target_rows * pull


def trained_head_loss(
    hidden: Tensor,
    head: Tensor,
    ids: Tensor,
    softcap: float | None,
    leaf: LeafOps,
    backend: HeadOps,
    *,
    num_chunks: Tensor | None = None,
    share: VocabularyShare | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The summed loss and its gradients by hidden states and head: for a head that is trained itself.

    A chunk of rows at a time, whose logits are held whole: the gradient by the head needs the finished sums.

    Args:
        hidden, head, ids, softcap, leaf, backend, num_chunks, share: As in `frozen_head_loss`.

    Returns:
        float32 sum of -log p(ids); float32 (P, D); float32 (V, D).
    """
    num_rows, size = hidden.shape[0], backend.trained_chunk_rows
    state = (
        ops.zeros((), "float32"),
        ops.zeros(hidden.shape, "float32"),
        ops.zeros(head.shape, "float32"),
        ops.zeros(hidden.shape, "float32"),
    )

    def step(index: Any, state: State) -> State:
        loss, d_hidden, d_head, d_targets = state
        begin = index * size
        count = size if num_chunks is not None else min(size, num_rows - begin)
        part = _rows(hidden, begin, count), head, _rows(ids, begin, count)
        added, d_rows, d_all, d_own = _trained_chunk(*part, softcap, leaf, backend, share)
        d_hidden = ops.slice_update(d_hidden, (begin, 0), d_rows)
        d_targets = ops.slice_update(d_targets, (begin, 0), d_own)
        return loss + added, d_hidden, backend.add(d_head, d_all), d_targets

    if num_chunks is not None:
        state = ops.fori_loop(0, num_chunks, step, state)
    else:
        for index in range(-(-num_rows // size)):
            state = step(index, state)
    loss, d_hidden, d_head, d_targets = state
    rows, is_own = _own_rows(ids, head, share)
    if is_own is not None:
        d_targets = ops.where(is_own, d_targets, 0.0)
    return loss, d_hidden, backend.add_rows(d_head, rows, d_targets)


def _trained_chunk(
    hidden: Tensor,
    head: Tensor,
    ids: Tensor,
    softcap: float | None,
    leaf: LeafOps,
    backend: HeadOps,
    share: VocabularyShare | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Summed loss; gradients by hidden states (P, D) and head (V, D), without what comes from the targets' own
    logits; and that (P, D), which belongs to the targets' rows of the head.
    """
    logits, slopes = _capped(leaf.head(hidden, head), softcap)
    logits = backend.hide_targets(logits, ids if share is None else ids - share.offset)
    norm = ops.logsumexp(logits, axis=1, keepdims=True)
    if share is not None:
        highest = share.highest(norm)
        norm = highest + ops.log(share.total(ops.exp(norm - highest)))
    loss, missed, target_rows, pull = _settled(hidden, head, ids, norm, softcap, share)
    weights = backend.exponentials(logits, norm) * missed
    weights = ops.cast(weights if slopes is None else weights * slopes, head.dtype)
    d_hidden = _mixed(weights, head, leaf) - target_rows * pull
    d_head = ops.cast(leaf.linear(ops.transpose(weights), ops.transpose(hidden)), "float32")
    return loss, d_hidden, d_head, -pull * ops.cast(hidden, "float32")


def _absorb(
    hidden: Tensor,
    columns: Tensor,
    rows: Tensor,
    state: State,
    *,
    softcap: float | None,
    leaf: LeafOps,
    backend: HeadOps,
    with_gradient: bool,
) -> State:
    """Peak (P, 1), total (P, 1) and mixed (P, D) of all but the targets, after more rows (R, D) of the head."""
    peak, total, mixed = state
    logits, slopes = _capped(leaf.head(hidden, rows), softcap)
    logits = backend.hide_targets(logits, columns)
    highest = ops.maximum(peak, ops.max(logits, axis=1, keepdims=True))
    shares = backend.exponentials(logits, highest)
    decay = ops.exp(peak - highest)
    total = total * decay + ops.sum(shares, axis=1, keepdims=True)
    if with_gradient:
        mixed = mixed * decay + _mixed(shares if slopes is None else shares * slopes, rows, leaf)
    return highest, total, mixed


def _rows(x: Tensor, begin: Any, count: int) -> Tensor:
    """Rows [begin, begin + count) of a tensor."""
    if len(x.shape) == 1:
        return ops.slice(x, (begin,), (count,))
    return ops.slice(x, (begin, 0), (count, x.shape[1]))


def _mixed(weights: Tensor, rows: Tensor, leaf: LeafOps) -> Tensor:
    """float32 (P, D): the rows (R, D) of the head, weighed by (P, R)."""
    return ops.cast(leaf.linear(ops.cast(weights, rows.dtype), ops.transpose(rows)), "float32")


def _capped(logits: Tensor, softcap: float | None) -> tuple[Tensor, Tensor | None]:
    """Logits as the model gives them, and their derivatives by the plain ones; None where these are 1."""
    if softcap is None:
        return logits, None
    bent = ops.tanh(logits / softcap)
    return softcap * bent, 1.0 - ops.square(bent)


def _own_rows(ids: Tensor, head: Tensor, share: VocabularyShare | None) -> tuple[Tensor, Tensor | None]:
    """Targets as rows of `head`; and with a `share` bool (P, 1), where they are this device's."""
    if share is None:
        return ops.maximum(ids, 0), None
    rows = ids - share.offset
    is_own = ops.logical_and(rows >= 0, rows < head.shape[0])
    return ops.where(is_own, rows, 0), is_own[:, None]


def _settled(
    hidden: Tensor, head: Tensor, ids: Tensor, others: Tensor, softcap: float | None, share: VocabularyShare | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Targets against all others, whose logarithm of summed exponentials is (P, 1).

    Returns:
        float32 summed loss; probability of all others (P, 1); the targets' rows of the head (P, D), and what these
        are to be multiplied by in the gradient (P, 1). Rows without a target have zeros; so have, with a `share`, the
        rows of the head that other devices hold.
    """
    chosen, is_own = _own_rows(ids, head, share)
    rows = ops.cast(ops.take(head, chosen, axis=0), "float32")
    if is_own is not None:
        rows = ops.where(is_own, rows, 0.0)
    plain = ops.sum(ops.cast(hidden, "float32") * rows, axis=1, keepdims=True)
    if share is not None:
        plain = share.total(plain)
    logits, slopes = _capped(plain, softcap)
    real = ops.cast(ids >= 0, "float32")[:, None]
    missed = ops.sigmoid(others - logits) * real
    loss = ops.sum(ops.softplus(others - logits) * real)
    return loss, missed, rows, missed if slopes is None else missed * slopes
