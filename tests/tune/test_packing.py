"""Rows: nothing is lost, documents do not touch, and best-fit fills them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemcut.tune.packing import one_each, pack, row_of
from gemcut.tune.samples import Sample


def sample(size: int, first: int = 10, learnt_from: int = 1) -> Sample:
    return Sample(np.arange(first, first + size), np.arange(size) >= learnt_from, f"line {first}")


SIZES = st.lists(st.integers(2, 16), min_size=1, max_size=40)


def test_a_row():
    row = row_of([sample(4, 10, 2), sample(3, 20)], 9)
    assert row.token_ids.tolist() == [10, 11, 12, 13, 20, 21, 22, 0, 0]
    assert row.targets.tolist() == [-1, 12, 13, -1, 21, 22, -1, -1, -1]
    assert row.positions.tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 0]
    assert row.segments.tolist() == [1, 1, 1, 1, 2, 2, 2, 0, 0]
    assert {array.dtype for array in (row.token_ids, row.targets, row.positions, row.segments)} == {np.dtype(np.int32)}


@given(SIZES)
@settings(max_examples=60, deadline=None)
def test_every_sample_is_in_one_row_as_it_was(sizes):
    samples = [sample(size, 100 * (index + 1)) for index, size in enumerate(sizes)]
    rows = pack(samples, 16)
    assert sorted(member for row in rows.members for member in row) == list(range(len(samples)))
    found = []
    for row in rows:
        assert row.token_ids.shape == (16,)
        for number in range(1, row.segments.max() + 1):
            inside = row.segments == number
            ids = row.token_ids[inside]
            found.append(ids.tolist())
            assert row.positions[inside].tolist() == list(range(len(ids)))
            assert row.targets[inside].tolist() == [*ids[1:].tolist(), -1]
        assert (row.targets[row.segments == 0] == -1).all()
    assert sorted(found) == sorted(each.token_ids.tolist() for each in samples)
    assert rows.num_tokens == sum(sizes)
    assert rows.num_targets == sum((row.targets >= 0).sum() for row in rows) == sum(size - 1 for size in sizes)


def best_fit(sizes: list[int], length: int) -> list[list[int]]:
    """Best-fit decreasing, written as it is told."""
    rows, rooms = [], []
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        fitting = [row for row, room in enumerate(rooms) if room >= sizes[index]]
        if fitting:
            least = min(rooms[row] for row in fitting)
            row = next(row for row in fitting if rooms[row] == least)
        else:
            row = len(rows)
            rows.append([])
            rooms.append(length)
        rows[row].append(index)
        rooms[row] -= sizes[index]
    return rows


@given(SIZES)
@settings(max_examples=60, deadline=None)
def test_it_is_best_fit_decreasing(sizes):
    found = pack([sample(size) for size in sizes], 16).members
    assert [[sizes[index] for index in row] for row in found] == [
        [sizes[index] for index in row] for row in best_fit(sizes, 16)
    ]


def test_the_same_samples_give_the_same_rows():
    sizes = np.random.default_rng(3).integers(2, 60, 300).tolist()
    rows = [pack([sample(size, index) for index, size in enumerate(sizes)], 64) for _ in range(2)]
    assert rows[0].members == rows[1].members
    assert rows[0].digest == rows[1].digest
    assert rows[0].num_tokens / (len(rows[0]) * 64) > 0.97


def test_the_digest_follows_ids_targets_order_and_length():
    base = [sample(4), sample(5)]
    others = [[sample(4), sample(5, 11)], [sample(4, 10, 2), sample(5)], base[::-1]]
    digests = {one_each(each, 64).digest for each in (base, *others)} | {
        one_each(base, 32).digest,
        pack(base, 64).digest,
    }
    assert len(digests) == 6


def test_one_sample_each_in_order_and_no_longer_than_needed():
    rows = one_each([sample(3, 10), sample(70, 20)], 1024)
    assert (len(rows), rows.length, rows.members) == (2, 128, [[0], [1]])
    assert rows[0].segments.sum() == 3
    assert one_each([sample(100)], 100).length == 100


def test_rows_are_a_sequence():
    rows = one_each([sample(3, first) for first in (10, 20, 30)], 64)
    assert [row.token_ids[0] for row in rows[1:]] == [20, 30]
    assert rows[-1].token_ids[0] == 30
    with pytest.raises(IndexError):
        rows[3]
