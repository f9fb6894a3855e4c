"""Attention over packed rows: each document sees itself only, and no work is done for keys that nobody sees."""

from __future__ import annotations

import bisect
from typing import Any

from keras import ops

from gemcut.config import DecoderConfig
from gemcut.model.attention import attention_mask
from gemcut.model.leaf_ops import LeafOps

Tensor = Any

LEAST_BLOCK = 128  # queries that are taken together at least; fewer make small products
MAX_BLOCKS = 8


def segment_mask(
    query_positions: Tensor, key_positions: Tensor, query_segments: Tensor, key_segments: Tensor, window: int | None
) -> Tensor:
    """Which keys each query of a packed row may attend to.

    Args:
        query_positions, query_segments: int32 (B, T), the position inside the document, and its number.
        key_positions, key_segments: int32 (B, S).
        window: Tokens a query sees, its own included; None for all of its document before it.

    Returns:
        bool (B, T, S), True where attention is allowed. Padding, segment 0, sees padding, so no row is empty.
    """
    seen = attention_mask(query_positions, key_positions, window)
    return ops.logical_and(seen, query_segments[:, :, None] == key_segments[:, None, :])


def segment_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    positions: Tensor,
    segments: Tensor,
    window: int | None,
    config: DecoderConfig,
    leaf: LeafOps,
) -> Tensor:
    """Softmax attention inside the documents of packed rows.

    Args:
        queries: (B, N, T, H).
        keys, values: (B, K, T, H).
        positions, segments: int32 (B, T). A document's tokens lie side by side in their order.
        window: As in `segment_mask`.
        config: Scale and soft cap.
        leaf: The backend's leaf operations.

    Returns:
        (B, T, N * H) in the type of `queries`.
    """
    # Pieces that are put together again: the gradients of overlapping slices would each fill all the keys with zeros.
    ranges, blocks = query_blocks(queries.shape[2]), []
    begins = [begin for begin, _ in ranges]
    query_parts, key_parts, value_parts = (_parted(x, begins) for x in (queries, keys, values))
    for index, (begin, end) in enumerate(ranges):
        seen = slice(0 if window is None else bisect.bisect(begins, max(0, begin - window + 1)) - 1, index + 1)
        first = begins[seen.start]
        mask = segment_mask(
            positions[:, begin:end], positions[:, first:end], segments[:, begin:end], segments[:, first:end], window
        )
        blocks.append(
            leaf.attention(
                query_parts[index], _joined(key_parts[seen]), _joined(value_parts[seen]), mask, config.query_scale,
                config.attn_logit_softcapping,
            )
        )  # fmt: skip
    return blocks[0] if len(blocks) == 1 else ops.concatenate(blocks, axis=1)


def _parted(x: Tensor, begins: list[int]) -> list[Tensor]:
    return [x] if len(begins) == 1 else ops.split(x, begins[1:], axis=2)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=2)


def query_blocks(num_queries: int) -> list[tuple[int, int]]:
    """Ranges of queries that are taken one after another, each with the keys that lie before its end."""
    width = max(LEAST_BLOCK, -(-num_queries // MAX_BLOCKS))
    return [(begin, min(begin + width, num_queries)) for begin in range(0, num_queries, width)]
