"""Rows of equal length: several samples in each, best-fit, or one sample in each."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import overload

import numpy as np

from gemcut.tune.samples import Sample

_ROUND_TO = 64  # where a row's length follows from the data


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Row:
    """Documents side by side, padded at the end; every array is int32 (T,).

    Attributes:
        token_ids: Ids; 0 in the padding.
        targets: The id that must follow each position, -1 where nothing is learnt: in what is given, at a document's
            last position, in the padding.
        positions: From 0 in each document; 0 in the padding.
        segments: The document's number in the row, from 1; 0 in the padding. No token sees another segment.
    """

    token_ids: np.ndarray
    targets: np.ndarray
    positions: np.ndarray
    segments: np.ndarray


class Rows(Sequence[Row]):
    """Rows that are made when they are asked for.

    Args:
        samples: All samples.
        members: For each row, indices of its samples, in their order in the row.
        length: Tokens of a row, T.
    """

    def __init__(self, samples: Sequence[Sample], members: Sequence[Sequence[int]], length: int) -> None:
        self.samples, self.members, self.length = samples, members, length

    def __len__(self) -> int:
        return len(self.members)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Row | Rows:
        if isinstance(index, slice):
            return Rows(self.samples, self.members[index], self.length)
        return row_of([self.samples[member] for member in self.members[index]], self.length)

    @property
    def num_tokens(self) -> int:
        """Tokens of the rows, padding not counted."""
        return sum(len(self.samples[member]) for row in self.members for member in row)

    @property
    def num_targets(self) -> int:
        """Tokens that are learnt in one pass over the rows."""
        return sum(self.samples[member].num_targets for row in self.members for member in row)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all that the rows hold."""
        digest = hashlib.sha256(str(self.length).encode())
        for row in self.members:
            digest.update(len(row).to_bytes(8, "little"))
            for member in row:
                digest.update(self.samples[member].digest())
        return digest.hexdigest()


def row_of(samples: Sequence[Sample], length: int) -> Row:
    """A row of the given samples, which have `length` tokens or fewer together."""
    assert sum(map(len, samples)) <= length, "the samples of a row fit it"
    row = Row(*(np.full(length, value, np.int32) for value in (0, -1, 0, 0)))
    start = 0
    for number, sample in enumerate(samples, 1):
        end = start + len(sample)
        row.token_ids[start:end] = sample.token_ids
        row.targets[start : end - 1] = np.where(sample.is_target[1:], sample.token_ids[1:], -1)
        row.positions[start:end] = np.arange(len(sample))
        row.segments[start:end] = number
        start = end
    return row


def pack(samples: Sequence[Sample], length: int) -> Rows:
    """Rows into which samples are packed, best-fit decreasing.

    The longest sample comes first, each into the fullest row that still has room; of equals, the first. The same
    samples give the same rows.

    Args:
        samples: Each of `length` tokens at most, and not empty.
        length: Tokens of a row.
    """
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(length + 1)]
    rooms = 0  # bit r is set where some row has room for exactly r tokens
    for index in sorted(range(len(samples)), key=lambda index: (-len(samples[index]), index)):
        size = len(samples[index])
        fitting = rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            number = by_room[room].pop(0)
            rooms ^= 0 if by_room[room] else 1 << room
        else:
            room, number = length, len(rows)
            rows.append([])
        rows[number].append(index)
        by_room[room - size].append(number)
        rooms |= 1 << (room - size)
    return Rows(samples, rows, length)


def one_each(samples: Sequence[Sample], length: int) -> Rows:
    """Rows with one sample each, in order, as long as the longest sample, rounded up to 64 but at most `length`."""
    longest = max(map(len, samples), default=1)
    return Rows(samples, [[index] for index in range(len(samples))], min(rounded(longest), length))


def rounded(num_tokens: int) -> int:
    """The next multiple of 64."""
    return -(-num_tokens // _ROUND_TO) * _ROUND_TO
