"""Sizes of caches and batches come in powers of two, so that few shapes are compiled."""

from __future__ import annotations

import numpy as np
import pytest

from gemcut.model.cache import KerasKVCache, bucket


@pytest.mark.parametrize(
    ("count", "least", "size"),
    [
        (0, 1, 1),
        (1, 1, 1),
        (2, 1, 2),
        (3, 1, 4),
        (4, 1, 4),
        (1, 16, 16),
        (17, 16, 32),
        (512, 512, 512),
        (513, 512, 1024),
    ],
)
def test_bucket_is_the_smallest_that_holds_the_count(count, least, size):
    assert bucket(count, least) == size


def test_lengths_count_every_token_also_one_not_stored_yet():
    cache = KerasKVCache(
        2, 512, [], np.array([3, 0], np.int32), None, np.array([9, 9]), [[1, 2, 3, 9], [9]], [3, 0], [0, 0]
    )
    assert cache.lengths.tolist() == [4, 1]
    assert cache.lengths.dtype == np.int32
    assert cache.rows == 2
