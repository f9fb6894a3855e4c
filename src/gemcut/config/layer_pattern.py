"""Layer types that repeat: every n-th layer sees the whole text, the others a window."""

from __future__ import annotations

from gemcut.config.decoder import FULL_ATTENTION, SLIDING_ATTENTION


def periodic_layer_types(num_layers: int, period: int) -> tuple[str, ...]:
    """Layer types in which the last layer of each `period` has full attention; the end may cut a period short.

    Args:
        num_layers: L, at least 1.
        period: At least 1; 1 makes every layer full.
    """
    return tuple(SLIDING_ATTENTION if (index + 1) % period else FULL_ATTENTION for index in range(num_layers))
