"""Steps: packing and accumulation change nothing, bad ones change nothing, a state that comes back goes on exactly."""

from __future__ import annotations

import numpy as np
import pytest
from families import FAMILIES, write_reference
from training import assert_gradients_equal, batch_of, documents_of, step_of

from gemcut.tune.batches import Batch

pytestmark = [pytest.mark.backend, pytest.mark.keras]
[FAMILY] = [family for family in FAMILIES if family.name == "gemma2"]  # both kinds of layer, both soft caps
LENGTH = 40
LORA = {"rank": 3, "alpha": 3.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_reference(FAMILY, folder)
    return folder


@pytest.fixture(scope="module")
def train(folder, engine):
    """Steps of LoRA; every test leaves a state behind that it can begin from."""
    return step_of(folder, engine, lora=LORA, learning_rate=0.01)


@pytest.fixture(scope="module")
def documents():
    return documents_of([19, 11, 7, 29])


@pytest.fixture
def begun(train):
    """The steps at their beginning, with factors that are not zero."""
    state = train.state()
    generator = np.random.default_rng(1)
    state.step = 0
    state.trained = {
        name: generator.standard_normal(values.shape, dtype=np.float32) / 4 for name, values in state.trained.items()
    }
    state.slots = {
        name: {slot: np.zeros_like(values) for slot, values in kept.items()} for name, kept in state.slots.items()
    }
    train.load_state(state)
    return train


def test_packed_documents_learn_as_separate_ones_accumulated(begun, documents):
    packed = (batch_of([documents[:3], documents[3:]], LENGTH),)
    separate = tuple(batch_of([[documents[index]], [documents[index + 1]]], LENGTH) for index in (0, 2))
    assert_gradients_equal(begun.gradients(separate), begun.gradients(packed), share=1e-5)
    assert begun.loss(packed[0]) == pytest.approx(
        tuple(map(sum, zip(*(begun.loss(batch) for batch in separate), strict=True))), rel=1e-6
    )


def test_a_token_of_another_document_is_not_seen(begun, documents):
    """Changing one document of a row changes no gradient that comes from another."""
    ids, learnt = documents[0]
    unlearnt = [(ids, [False] * len(ids)), ([3, *ids[1:][::-1]], [False] * len(ids))]
    ours, others = (begun.gradients((batch_of([[each, documents[1]], [documents[3]]], LENGTH),)) for each in unlearnt)
    assert_gradients_equal(ours, others, share=1e-6)


def test_a_step_without_anything_to_learn_changes_nothing(begun, documents):
    batch = batch_of([documents[:3], documents[3:]], LENGTH)
    empty = Batch(batch.token_ids, np.full_like(batch.targets, -1), batch.positions, batch.segments)
    before = begun.state()
    result = begun.run((empty,))
    assert (result.loss, result.num_targets, result.gradient_norm, result.is_finite) == (0.0, 0, 0.0, True)
    for name, values in begun.state().trained.items():
        assert np.array_equal(values, before.trained[name])


def test_what_is_no_number_changes_nothing(begun, documents):
    step = (batch_of([documents[:3], documents[3:]], LENGTH),)
    state = begun.state()
    name = next(iter(state.trained))
    state.trained[name] = np.full_like(state.trained[name], np.nan)
    begun.load_state(state)
    result = begun.run(step)
    assert not result.is_finite
    after = begun.state()
    assert after.step == 0
    for key, values in after.trained.items():
        assert np.array_equal(values, state.trained[key], equal_nan=True)
        assert all(not kept.any() for kept in after.slots[key].values())


def test_a_state_that_comes_back_goes_on_bit_for_bit(begun, documents):
    steps = [(batch_of([documents[i : i + 1], documents[i + 1 : i + 2]], LENGTH),) for i in (0, 1, 2)]
    begun.run(steps[0])
    kept = begun.state()
    results = [begun.run(step) for step in steps]
    whole = begun.state()
    begun.load_state(kept)
    assert [begun.run(step) for step in steps] == results
    again = begun.state()
    assert again.step == whole.step == 4
    for name, values in whole.trained.items():
        assert np.array_equal(again.trained[name], values)
        for slot, each in whole.slots[name].items():
            assert np.array_equal(again.slots[name][slot], each)


def test_it_learns(begun, documents):
    step = (batch_of([documents[:3], documents[3:]], LENGTH),)
    losses = [begun.run(step).loss for _ in range(8)]
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize("recompute", ["cheap", "nothing"])
def test_what_is_computed_again_does_not_matter(begun, folder, documents, engine, recompute):
    step = (batch_of([documents[:3], documents[3:]], LENGTH),)
    other = step_of(folder, engine, lora=LORA, recompute=recompute)
    other.load_state(begun.state())
    assert_gradients_equal(other.gradients(step), begun.gradients(step), share=1e-4)


def test_bfloat16_is_near(begun, folder, documents, engine):
    step = (batch_of([documents[:3], documents[3:]], LENGTH),)
    other = step_of(folder, engine, lora=LORA, dtype="bfloat16")
    other.load_state(begun.state())
    found, expected = other.gradients(step), begun.gradients(step)
    assert all(values.dtype == np.float32 for values in found.values())
    shares = [np.linalg.norm(found[name] - values) / np.linalg.norm(values) for name, values in expected.items()]
    assert max(shares) < 0.3
    assert np.median(shares) < 0.1
    assert other.loss(step[0]) == pytest.approx(begun.loss(step[0]), rel=0.01)


def test_a_bfloat16_batch_without_targets(folder, documents, engine):
    train = step_of(folder, engine, lora=LORA, dtype="bfloat16")
    batch = batch_of([documents[:3], documents[3:]], LENGTH)
    empty = Batch(batch.token_ids, np.full_like(batch.targets, -1), batch.positions, batch.segments)
    assert train.loss(empty) == (0.0, 0)
    found, expected = train.gradients((batch, empty)), train.gradients((batch,))
    for name, gradient in expected.items():
        assert np.array_equal(found[name], gradient), name


@pytest.mark.parametrize("recompute", ["blocks", "nothing"])
def test_full_tuning_in_bfloat16(folder, documents, engine, recompute):
    step = (batch_of([documents[:3], documents[3:]], LENGTH),)
    trains = [
        step_of(folder, engine, method="full", recompute=recompute, dtype=dtype) for dtype in ("bfloat16", "float32")
    ]
    found, expected = (train.gradients(step * 2) for train in trains)
    shares = [np.linalg.norm(found[name] - values) / np.linalg.norm(values) for name, values in expected.items()]
    assert np.median(shares) < 0.1


def test_full_tuning_changes_every_tensor(folder, documents, engine):
    train = step_of(folder, engine, method="full", learning_rate=1e-3)
    step = (batch_of([documents[:3], documents[3:]], LENGTH),)
    before = train.state().trained
    losses = [train.run(step * 2).loss for _ in range(4)]
    assert losses[-1] < 0.8 * losses[0]
    for name, values in train.state().trained.items():
        assert not np.array_equal(values, before[name]), name
