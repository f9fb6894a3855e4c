"""Low-rank updates of a decoder's matrices, computed beside them: W x + B (A x)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gemcut.interfaces import LowRankUpdate
from gemcut.model.leaf_ops import LeafOps

Tensor = Any


def stacked_update(
    parts: tuple[str, ...], rows: tuple[int, ...], updates: Mapping[str, LowRankUpdate]
) -> tuple[np.ndarray, np.ndarray] | None:
    """One update of a matrix that stacks several: A factors above one another, B factors along the diagonal.

    Args:
        parts: Names of the stacked matrices, in order.
        rows: How many rows each has.
        updates: By name; a part may have none.

    Returns:
        float32 A (R, in) and B (out, R), the scale in B, where R is the sum of the ranks; None if no part is updated.
    """
    found = [updates.get(part) for part in parts]
    ranks = [update.rank if update else 0 for update in found]
    present = [update for update in found if update]
    if not present:
        return None
    b = np.zeros((sum(rows), sum(ranks)), np.float32)
    row = column = 0
    for update, num_rows, rank in zip(found, rows, ranks, strict=True):
        if update:
            b[row : row + num_rows, column : column + rank] = update.b * np.float32(update.scale)
        row, column = row + num_rows, column + rank
    return np.concatenate([update.a for update in present]), b


def adapted_linear(weights: dict[str, Tensor], name: str, x: Tensor, leaf: LeafOps) -> Tensor:
    """`x` (..., in) times the transpose of a layer's matrix (out, in) and of its update, as (..., out).

    Args:
        weights: The layer's tensors by name; `name`.lora_a (R, in) and `name`.lora_b (out, R) where it is updated.
        name: The matrix, without ".weight".
        x: The input.
        leaf: The backend's leaf operations.
    """
    x = leaf.before_matrix(name, x)
    product = leaf.linear(x, weights[f"{name}.weight"])
    if f"{name}.lora_a" in weights:
        product = leaf.add_linear(product, leaf.linear(x, weights[f"{name}.lora_a"]), weights[f"{name}.lora_b"])
    return leaf.after_matrix(name, product)
