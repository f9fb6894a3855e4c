"""Samples that are held out for evaluation: a share of the data, or those of a file."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from gemcut.errors import DataError
from gemcut.tune.samples import Sample


def split(samples: Sequence[Sample], share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Samples to train on and samples to hold out, both in order.

    Which are held out depends on their contents and the seed, not on their order; equal samples stay together.

    Raises:
        DataError: one of the two would be empty.
    """
    if not share:
        return list(samples), []
    groups: dict[bytes, list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.digest(), []).append(index)
    wanted = math.ceil(share * len(samples))
    held_out: set[int] = set()
    salt = seed.to_bytes(8, "little")
    for digest in sorted(groups, key=lambda digest: hashlib.sha256(salt + digest).digest()):
        if len(held_out) >= wanted:
            break
        held_out.update(groups[digest])
    if len(held_out) in (0, len(samples)):
        raise DataError(
            f"evaluation.share: {share} of {len(samples)} samples, of which {len(groups)} differ, leaves nothing to "
            "train on. Lower it, or add data."
        )
    train = [sample for index, sample in enumerate(samples) if index not in held_out]
    return train, [samples[index] for index in sorted(held_out)]


def without_twins(samples: Sequence[Sample], held_out: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Samples of which none is among the held-out ones, and those that were."""
    known = {sample.digest() for sample in held_out}
    kept, twins = list[Sample](), list[Sample]()
    for sample in samples:
        (twins if sample.digest() in known else kept).append(sample)
    return kept, twins


__all__ = ["split", "without_twins"]
