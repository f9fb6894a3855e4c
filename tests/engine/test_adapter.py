"""An adapter on the native engine: counted, hashed into saved states, refused where it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemcut.engine import NativeCheckpoint, NativeLanguageModel
from gemcut.errors import CheckpointError, UsageError
from gemcut.interfaces import LowRankUpdate

pytestmark = pytest.mark.native
DOWN = "model.layers.1.mlp.down_proj.weight"  # (32, 48)
TOKEN_IDS = [2, 17, 93, 400, 5, 61]


def update(rank: int = 3, rows: int = 32, columns: int = 48, scale: float = 0.5) -> LowRankUpdate:
    generator = np.random.default_rng(7)
    a, b = (generator.standard_normal(shape, dtype=np.float32) for shape in ((rank, columns), (rows, rank)))
    return LowRankUpdate(a, b, scale)


@pytest.fixture
def load(tiny_folder: Path) -> Callable[..., NativeLanguageModel]:
    def open_with(updates: dict[str, LowRankUpdate] | None, **options: Any) -> NativeLanguageModel:
        with NativeCheckpoint(tiny_folder) as checkpoint:
            return NativeLanguageModel(checkpoint, dtype="float32", updates=updates, **options)

    return open_with


def test_changes_logits_and_counts(load):
    plain, adapted, off = (load(updates) for updates in (None, {DOWN: update()}, {DOWN: update(scale=0.0)}))
    assert np.abs(adapted.logits(TOKEN_IDS) - plain.logits(TOKEN_IDS)).max() > 0.1
    assert np.array_equal(off.logits(TOKEN_IDS), plain.logits(TOKEN_IDS))
    extra_bytes = 4 * (16 * 48 + 32 * 3)  # A in a group of 16 rows, B in two
    assert adapted.weights_bytes - plain.weights_bytes == extra_bytes
    assert adapted.weight_bytes_per_token - plain.weight_bytes_per_token == extra_bytes
    assert adapted.multiply_adds_per_token - plain.multiply_adds_per_token == 3 * (48 + 32)


def test_threads_and_company_do_not_matter(load):
    one, two = (load({DOWN: update()}, threads=threads) for threads in (1, 2))
    expected = one.logits(TOKEN_IDS * 9)
    assert np.array_equal(two.logits(TOKEN_IDS * 9), expected)
    assert np.array_equal(two.logits(TOKEN_IDS), expected[: len(TOKEN_IDS)])


def test_state_of_another_adapter_is_refused(load, tmp_path):
    adapted, plain = load({DOWN: update()}), load(None)
    cache = adapted.new_cache(1, 10)
    adapted.prefill(cache, [TOKEN_IDS])
    adapted.save_state(cache, tmp_path / "state")
    assert load({DOWN: update()}).load_state(tmp_path / "state", 10).lengths.tolist() == [6]
    for other in (plain, load({DOWN: update(scale=0.25)})):
        with pytest.raises(CheckpointError, match="it was saved from another model"):
            other.load_state(tmp_path / "state", 10)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("model.layers.2.mlp.down_proj.weight", update(), r"is no matrix of this model's 2 layers"),
        ("lm_head.weight", update(), r'"lm_head.weight" is no matrix'),
        (DOWN, update(rows=16), r"is \(16, 48\) of rank 3, expected \(32, 48\) of rank 1 or more"),
        (DOWN, update(rank=0), r"is \(32, 48\) of rank 0, expected"),
    ],
    ids=["layer", "head", "shape", "rank 0"],
)
def test_what_does_not_fit_is_refused(load, name, wrong, message):
    with pytest.raises(CheckpointError, match=message):
        load({name: wrong})


def test_factors_of_two_ranks_are_refused(load):
    mixed = LowRankUpdate(update(3).a, update(4).b, 1.0)
    with pytest.raises(UsageError, match=f"updates: the factors of {DOWN} are of two ranks, expected one"):
        load({DOWN: mixed})
