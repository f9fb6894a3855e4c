"""Every tensor is accounted for, and errors are those of the numbers themselves."""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemcut.checkpoint import LazyTensor, open_checkpoint
from gemcut.checkpoint.names import Transform
from gemcut.errors import CheckpointError
from gemcut.inspect.tensor_comparison import compare_tensors, tensor_errors

NUMPY_TYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


def lazy(values: np.ndarray, stored_type: str = "F32", **fields) -> LazyTensor:
    raw = np.frombuffer(values.astype(NUMPY_TYPES[stored_type]).tobytes(), np.uint8)
    return LazyTensor("weight", "weight", "a.safetensors", values.shape, stored_type, raw, **fields)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("shape", [(5,), (7, 3), (1100, 1000)], ids=["vector", "matrix", "several-chunks"])
def test_errors_are_those_of_numpy(shape):
    a, b = noise(*shape), noise(*shape)
    b.reshape(-1)[::2] += 0.25 * noise(*shape, seed=1).reshape(-1)[::2]
    errors = tensor_errors(lazy(a), lazy(b))
    difference = a.astype(np.float64) - b
    rms = max(np.sqrt(np.mean(np.square(values, dtype=np.float64))) for values in (a, b))
    assert errors.max_error == np.abs(difference).max()
    assert errors.relative_rms_error == pytest.approx(np.sqrt(np.mean(difference**2)) / rms, rel=1e-12)
    assert errors.changed_share == np.count_nonzero(difference) / difference.size
    assert errors.max_value == max(np.abs(a).max(), np.abs(b).max())


@given(st.sampled_from(list(NUMPY_TYPES)), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_tensor_is_equal_to_itself(stored_type, rows, columns, seed):
    tensor = lazy(noise(rows, columns, seed=seed), stored_type)
    errors = tensor_errors(tensor, tensor)
    assert (errors.max_error, errors.relative_rms_error, errors.changed_share) == (0, 0, 0)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_order_of_the_two_does_not_matter(rows, columns, seed):
    a, b = lazy(noise(rows, columns, seed=seed)), lazy(noise(rows, columns, seed=seed + 1), "BF16")
    one, other = tensor_errors(a, b), tensor_errors(b, a)
    assert dataclasses.replace(other, type_a="F32", type_b="BF16") == one


def test_zeros_have_no_relative_error():
    zeros = lazy(np.zeros((2, 2), np.float32))
    assert tensor_errors(zeros, zeros).relative_rms_error == 0
    assert tensor_errors(zeros, lazy(np.ones((2, 2), np.float32))).relative_rms_error == 1


def test_heads_stay_whole_where_rows_are_stored_in_another_order():
    values = noise(8192, 300)  # several chunks of whole heads
    pairs = values.reshape(-1, 2, 64, 300).swapaxes(1, 2).reshape(values.shape)  # as GGUF keeps Llama's queries
    stored = lazy(pairs, transform=Transform.UNPERMUTE_QUERY, head_dim=128)
    assert tensor_errors(lazy(values, head_dim=128), stored).max_error == 0


def test_gains_stored_with_one_added_are_marked():
    values = noise(9)
    errors = tensor_errors(lazy(values), lazy(values + 1, transform=Transform.MINUS_ONE))
    assert errors.adds_one
    assert 0 < errors.max_error < 1e-6


def test_value_that_is_no_number_is_refused():
    values = noise(4, 4)
    values[2, 1] = np.nan
    with pytest.raises(CheckpointError, match='"weight" has a value that is NaN, infinite'):
        tensor_errors(lazy(noise(4, 4)), lazy(values))


def test_account_names_what_cannot_be_compared():
    square, wide = lazy(noise(2, 2)), lazy(noise(2, 3))
    seen = []
    account = compare_tensors(
        {"lm_head.weight": square, "both": square, "shape": square, "a": square},
        {"lm_head.weight": square, "both": square, "shape": wide, "b": wide},
        lambda *facts: seen.append(facts),
    )
    assert (account.only_in_a, account.only_in_b) == (["a"], ["b"])
    assert account.shapes == [("shape", (2, 2), (2, 3))]
    assert [errors.name for errors in account.compared] == ["lm_head.weight", "both"]
    assert seen == [("lm_head.weight", 0, 32), ("both", 16, 32)]
    assert account.notes == []


def test_head_of_its_own_is_compared_with_a_tied_one():
    embedding = lazy(noise(4, 2))
    tied = {"model.embed_tokens.weight": embedding}
    own = tied | {"lm_head.weight": lazy(noise(4, 2, seed=1))}
    account = compare_tensors(tied, own)
    assert [(errors.name, errors.max_error > 0) for errors in account.compared] == [
        ("model.embed_tokens.weight", False),
        ("lm_head.weight", True),
    ]
    assert account.notes == ["the output head of A is its embedding, and is compared as such"]
    assert account.only_in_a == account.only_in_b == []


def test_checkpoint_is_equal_to_itself(tiny_folder):
    with open_checkpoint(tiny_folder) as checkpoint:
        account = compare_tensors(checkpoint.tensors, checkpoint.tensors)
        names = list(checkpoint.tensors)
    assert [errors.name for errors in account.compared] == names
    assert {errors.max_error for errors in account.compared} == {0.0}
