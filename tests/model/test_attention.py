"""Who may see whom, against brute force."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = [pytest.mark.backend, pytest.mark.keras]


@pytest.mark.parametrize("num_slots", [1, 4, 7])
def test_slot_positions_follow_a_ring_written_token_by_token(engine, to_numpy, num_slots):
    from keras import ops

    from gemcut.model.attention import slot_positions

    lengths = np.arange(0, 3 * num_slots + 2, dtype=np.int32)
    found = to_numpy(slot_positions(ops.convert_to_tensor(lengths), num_slots))
    for length, held in zip(lengths, found, strict=True):
        ring = {}
        for position in range(length):
            ring[position % num_slots] = position
        for slot in range(num_slots):
            if slot in ring:
                assert held[slot] == ring[slot]
            else:
                assert held[slot] < 0


@pytest.mark.parametrize("window", [None, 1, 3, 100], ids=lambda window: f"window-{window}")
def test_mask_allows_filled_slots_up_to_the_query_and_within_the_window(engine, to_numpy, window):
    from keras import ops

    from gemcut.model.attention import attention_mask

    generator = np.random.default_rng(1)
    queries = generator.integers(0, 12, (2, 5)).astype(np.int32)
    keys = generator.integers(-4, 12, (2, 9)).astype(np.int32)
    mask = to_numpy(attention_mask(ops.convert_to_tensor(queries), ops.convert_to_tensor(keys), window))
    assert mask.shape == (2, 5, 9)
    for row, query, key in np.ndindex(mask.shape):
        position, held = queries[row, query], keys[row, key]
        seen = 0 <= held <= position and (window is None or position - held < window)
        assert mask[row, query, key] == seen
    assert mask.any()
    assert not mask.all()
