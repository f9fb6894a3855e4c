"""The loss in blocks and chunks, and its gradients, equal the plain ones."""

from __future__ import annotations

import numpy as np
import pytest
from training import backend_gradients

pytestmark = [pytest.mark.backend, pytest.mark.keras]
NUM_ROWS, WIDTH, VOCAB_SIZE = 11, 8, 45  # the last block of 16 is not full
CAPS = pytest.mark.parametrize("softcap", [None, 5.0], ids=["plain", "capped"])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch, engine):
    from gemcut.tune import losses

    monkeypatch.setattr(losses, "VOCABULARY_BLOCK", 16)


@pytest.fixture
def case():
    generator = np.random.default_rng(3)
    hidden = generator.standard_normal((NUM_ROWS, WIDTH), dtype=np.float32)
    head = 2 * generator.standard_normal((VOCAB_SIZE, WIDTH), dtype=np.float32)
    ids = generator.integers(0, VOCAB_SIZE, NUM_ROWS).astype(np.int32)
    ids[[2, 7]] = -1, 44  # nothing is learnt; in the last block
    return hidden, head, ids


def plain_loss(hidden, head, ids, softcap):
    """Loss and gradients by hidden states and head, in float64."""
    hidden, head = hidden.astype(np.float64), head.astype(np.float64)
    logits = hidden @ head.T
    slopes = np.ones_like(logits)
    if softcap is not None:
        slopes = 1 - np.tanh(logits / softcap) ** 2
        logits = softcap * np.tanh(logits / softcap)
    logprobs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    real = ids >= 0
    d_logits = np.exp(logprobs)
    d_logits[np.arange(len(ids)), ids] -= 1
    d_logits *= slopes * real[:, None]
    return -logprobs[real, ids[real]].sum(), d_logits @ head, d_logits.T @ hidden


def tensors(*arrays):
    from keras import ops

    return [ops.convert_to_tensor(array) for array in arrays]


def numpy_of(tensor):
    return tensor.detach().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)


def run(function, case, softcap, engine, **options):
    """The function compiled as the backend's steps are."""
    from gemcut.model.backend_ops import leaf_ops

    def call(*arrays):
        return function(*arrays, softcap, leaf_ops(), backend_gradients(engine), **options)

    if engine == "tensorflow":
        import tensorflow as tf

        call = tf.function(call, jit_compile=True, autograph=False)
    elif engine == "jax":
        import jax

        call = jax.jit(call)
    return [numpy_of(each) for each in call(*tensors(*case))]


@CAPS
def test_frozen_head(case, softcap, engine):
    from gemcut.tune.losses import frozen_head_loss

    loss, d_hidden = run(frozen_head_loss, case, softcap, engine)
    expected = plain_loss(*case, softcap)
    assert loss == pytest.approx(expected[0], rel=1e-6)
    np.testing.assert_allclose(d_hidden, expected[1], rtol=1e-6, atol=2e-6)


@CAPS
def test_trained_head(case, softcap, engine):
    from gemcut.tune.losses import trained_head_loss

    backend = backend_gradients(engine)
    loss, *gradients = run(trained_head_loss, case, softcap, engine)
    expected = plain_loss(*case, softcap)
    assert backend.trained_chunk_rows > NUM_ROWS  # one chunk; several in the next test
    assert loss == pytest.approx(expected[0], rel=1e-6)
    for found, wanted in zip(gradients, expected[1:], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=5e-6)


@pytest.mark.parametrize("name", ["frozen_head_loss", "trained_head_loss"])
def test_chunks_of_rows_that_are_filled_up(case, name, engine, monkeypatch):
    from gemcut.tune import losses

    monkeypatch.setattr(losses, "ROW_CHUNK", 4)
    monkeypatch.setattr(type(backend_gradients(engine)), "trained_chunk_rows", 4)
    hidden, head, ids = case
    filled = np.concatenate([hidden, np.full((9, WIDTH), 3, np.float32)]), head, np.append(ids, [-1] * 9).astype("i4")
    options = {} if engine == "torch" else {"num_chunks": tensors(np.int32(3))[0]}  # 12 of 20 rows are computed
    loss, *gradients = run(getattr(losses, name), filled, 5.0, engine, **options)
    expected = plain_loss(*case, 5.0)
    assert loss == pytest.approx(expected[0], rel=1e-6)
    np.testing.assert_allclose(gradients[0][:NUM_ROWS], expected[1], rtol=1e-6, atol=2e-6)
    assert not gradients[0][NUM_ROWS:].any()
    for found, wanted in zip(gradients[1:], expected[2:], strict=False):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=5e-6)


def test_a_nearly_certain_target_keeps_its_gradient_in_bfloat16(engine):
    """The target's row is not among those that are rounded: else its rounding would be all that is left."""
    from keras import ops

    from gemcut.tune.losses import frozen_head_loss

    head = np.random.default_rng(4).integers(-3, 4, (VOCAB_SIZE, WIDTH)).astype(np.float32)  # exact in bfloat16
    head[:3] = 4 * np.eye(3, WIDTH)
    hidden = np.array(head[:3] * 3)  # the logit of its own row is by far the highest
    ids = np.arange(3, dtype=np.int32)
    _, expected, _ = plain_loss(hidden, head, ids, None)

    def in_bfloat16(hidden, head, *rest):
        return frozen_head_loss(ops.cast(hidden, "bfloat16"), ops.cast(head, "bfloat16"), *rest)

    _, found = run(in_bfloat16, (hidden, head, ids), None, engine)
    assert 0 < np.abs(expected).max() < 0.01
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("multiple", [None, 8])
def test_learnt_rows(multiple):
    targets = np.array([[-1, 7, -1], [5, -1, 6]])
    from gemcut.tune.losses import LearntRows

    learnt = LearntRows.of(targets, multiple)
    fill = 0 if multiple is None else 5
    assert learnt.rows.tolist() == [1, 3, 5] + [0] * fill
    assert learnt.ids.tolist() == [7, 5, 6] + [-1] * fill
    assert learnt.num_targets == 3
