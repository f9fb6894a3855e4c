"""Each backend's leaf operations equal the `keras.ops` reference, and that one NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

pytestmark = [pytest.mark.backend, pytest.mark.keras]
# Relative to the largest value of the result: float32 products differ by the order of their sums; a bfloat16 result
# is rounded to 8 bits once. In attention the shares are rounded too, and in the reference the scores, up to 16 here.
BOUNDS = {"float32": 2e-6, "bfloat16": 2.0**-7}
ATTENTION_BOUNDS = {"float32": 4e-6, "bfloat16": 2.0**-5}
NUM_SLOTS, HEAD_DIM = 9, 8


@pytest.fixture(scope="module")
def leaf(engine):
    from gemcut.model.backend_ops import leaf_ops

    return leaf_ops()


@pytest.fixture(scope="module")
def reference(engine):
    from gemcut.model.leaf_ops import LeafOps

    return LeafOps()


@pytest.fixture(scope="module")
def tensor(engine):
    """A tensor of the backend from a NumPy array, always a new one: some operations reuse storage."""
    from keras import ops

    return lambda array, dtype=None: ops.convert_to_tensor(np.array(array), dtype=dtype)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def rounded(array, dtype):
    return array.astype(ml_dtypes.bfloat16).astype(np.float32) if dtype == "bfloat16" else array


def assert_close(found, expected, dtype, bounds=BOUNDS):
    np.testing.assert_allclose(found, expected, rtol=0, atol=bounds[dtype] * np.abs(expected).max())


dtypes = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


@dtypes
@pytest.mark.parametrize("lead", [(1,), (1, 1), (5,), (2, 3)], ids=["row", "row-3d", "rows", "rows-3d"])
def test_linear(leaf, reference, tensor, to_numpy, dtype, lead):
    x, weight = rounded(normal(*lead, 64), dtype), rounded(normal(24, 64, seed=1), dtype)
    results = [ops.linear(tensor(x, dtype), tensor(weight, dtype)) for ops in (leaf, reference)]
    exact = x.astype(np.float64) @ weight.T.astype(np.float64)
    for result in results:
        assert dtype in str(result.dtype)
        assert_close(to_numpy(result), exact, dtype)


@dtypes
def test_add_linear(leaf, reference, tensor, to_numpy, dtype):
    x, weight = rounded(normal(2, 3, 8), dtype), rounded(normal(24, 8, seed=1), dtype)
    product = rounded(normal(2, 3, 24, seed=2), dtype)
    exact = product.astype(np.float64) + x.astype(np.float64) @ weight.T.astype(np.float64)
    for ops in (leaf, reference):
        result = ops.add_linear(tensor(product, dtype), tensor(x, dtype), tensor(weight, dtype))
        assert dtype in str(result.dtype)
        assert_close(to_numpy(result), exact, dtype)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_split(leaf, reference, tensor, to_numpy, axis):
    x = normal(3, 4, 5)
    for ops in (leaf, reference):
        parts = [to_numpy(part) for part in ops.split(tensor(x), 2, axis)]
        for part, expected in zip(parts, np.split(x, [2], axis), strict=True):
            assert np.array_equal(part, expected)


@dtypes
@pytest.mark.parametrize("rows", [1, 4])
def test_head(leaf, reference, tensor, to_numpy, dtype, rows):
    x, weight = rounded(normal(rows, 64), dtype), rounded(normal(24, 64, seed=1), dtype)
    exact = x.astype(np.float64) @ weight.T.astype(np.float64)
    for ops in (leaf, reference):
        result = ops.head(tensor(x, dtype), tensor(weight, dtype))
        assert "float32" in str(result.dtype)
        assert_close(to_numpy(result), exact, dtype)


@dtypes
@pytest.mark.parametrize("unit_offset", [True, False], ids=["gemma-order", "llama-order"])
def test_rms_norm(leaf, reference, tensor, to_numpy, dtype, unit_offset):
    x, gain = rounded(normal(2, 3, 64) * 5, dtype), rounded(normal(64, seed=1), dtype)
    wide = x.astype(np.float64)
    normed = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-6)
    exact = normed * (1 + gain) if unit_offset else rounded(normed.astype(np.float32), dtype) * gain
    results = [
        to_numpy(ops.rms_norm(tensor(x, dtype), tensor(gain, dtype), 1e-6, unit_offset)) for ops in (leaf, reference)
    ]
    assert_close(results[0], exact, dtype)
    # A result that lies between two bfloat16 numbers may be rounded to either.
    assert_close(results[0], results[1], dtype)
    assert dtype == "float32" or (results[0] == results[1]).mean() > 0.98


def test_the_two_orders_of_casts_differ_in_bfloat16(leaf, tensor, to_numpy):
    x, gain = rounded(normal(40, 64), "bfloat16"), rounded(normal(64, seed=1), "bfloat16")
    gemma = to_numpy(leaf.rms_norm(tensor(x, "bfloat16"), tensor(gain, "bfloat16"), 1e-6, True))
    shifted = rounded(gain + 1, "bfloat16")
    llama = to_numpy(leaf.rms_norm(tensor(x, "bfloat16"), tensor(shifted, "bfloat16"), 1e-6, False))
    assert 0.1 < (gemma != llama).mean() < 1


def causal(length):
    return np.tril(np.ones((length, length), bool))[None]


def random_mask(batch, queries, slots):
    mask = np.random.default_rng(5).random((batch, queries, slots)) < 0.5
    mask[:, :, 0] = True
    return mask


def exact_attention(queries, keys, values, mask, scale, softcap):
    group = queries.shape[1] // keys.shape[1]
    keys, values = (np.repeat(array.astype(np.float64), group, axis=1) for array in (keys, values))
    scores = np.einsum("bnth,bnsh->bnts", queries.astype(np.float64), keys) * scale
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    scores = np.where(mask[:, None], scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    mixed = np.einsum("bnts,bnsh->btnh", shares, values)
    return mixed.reshape(*mixed.shape[:2], -1)


# Every number of KV heads with and without a soft cap in float32; one of them in bfloat16.
grouped_heads = pytest.mark.parametrize(
    ("num_kv_heads", "softcap", "dtype"),
    [
        *(
            pytest.param(heads, cap, "float32", id=f"{heads}-kv-heads-cap-{cap}")
            for heads in (4, 2, 1)
            for cap in (None, 2.0)
        ),
        *(pytest.param(2, cap, "bfloat16", id=f"bfloat16-cap-{cap}") for cap in (None, 2.0)),
    ],
)


@grouped_heads
@pytest.mark.parametrize(
    ("num_queries", "num_keys", "kind"),
    [(5, 5, "none"), (256, 256, "none"), (5, 9, "mask"), (1, 9, "mask")],
)
def test_attention(leaf, reference, tensor, to_numpy, dtype, softcap, num_kv_heads, num_queries, num_keys, kind):
    queries = rounded(normal(2, 4, num_queries, HEAD_DIM) * 2, dtype)
    keys, values = (rounded(normal(2, num_kv_heads, num_keys, HEAD_DIM, seed=seed) * 2, dtype) for seed in (1, 2))
    mask = random_mask(2, num_queries, num_keys) if kind == "mask" else None
    exact = exact_attention(queries, keys, values, causal(num_queries) if mask is None else mask, 0.3, softcap)
    for ops in (leaf, reference):
        given = None if mask is None else tensor(mask)
        result = ops.attention(*(tensor(x, dtype) for x in (queries, keys, values)), given, 0.3, softcap)
        assert dtype in str(result.dtype)
        assert tuple(result.shape) == (2, num_queries, 4 * HEAD_DIM)
        assert_close(to_numpy(result), exact, dtype, ATTENTION_BOUNDS)


@dtypes
@pytest.mark.parametrize("softcap", [None, 50.0], ids=["uncapped", "softcap"])
@pytest.mark.parametrize("num_queries", [1, 3])
def test_rows_that_see_nothing_stay_finite_and_alone(leaf, reference, tensor, to_numpy, dtype, softcap, num_queries):
    queries, keys, values = (rounded(normal(2, heads, size, HEAD_DIM, seed=heads), dtype) for heads, size in
                             ((4, num_queries), (2, 6), (2, 6)))  # fmt: skip
    mask = np.ones((2, num_queries, 6), bool)
    mask[1] = False
    exact = exact_attention(queries[:1], keys[:1], values[:1], mask[:1], 0.3, softcap)
    for ops in (leaf, reference):
        given = (tensor(x, dtype) for x in (queries, keys, values))
        result = to_numpy(ops.attention(*given, tensor(mask), 0.3, softcap))
        assert np.isfinite(result).all()
        assert_close(result[:1], exact, dtype, ATTENTION_BOUNDS)


@pytest.mark.parametrize("num_queries", [1, 255, 256, 258, 512])
def test_causal_blocks_take_every_query_once_in_order(engine, num_queries):
    from gemcut.model.leaf_ops import causal_blocks

    blocks = causal_blocks(num_queries)
    assert [query for begin, end in blocks for query in range(begin, end)] == list(range(num_queries))
    assert len(blocks) == (4 if num_queries in (256, 512) else 1)


@grouped_heads
@pytest.mark.parametrize(
    ("slots", "read"), [([3], 9), ([0], 4), ([3, 0, 8], 9), ([2, 3, 0], 4)], ids=lambda value: str(value)
)
def test_attend_next(leaf, reference, tensor, to_numpy, dtype, softcap, num_kv_heads, slots, read):
    """The new position is attended to and takes the place of what its slot held."""
    batch = len(slots)
    queries = rounded(normal(batch, 4, 1, HEAD_DIM) * 2, dtype)
    keys, values = (rounded(normal(batch, num_kv_heads, 1, HEAD_DIM, seed=seed) * 2, dtype) for seed in (1, 2))
    caches = [rounded(normal(batch, num_kv_heads, NUM_SLOTS, HEAD_DIM, seed=seed) * 2, dtype) for seed in (3, 4)]
    mask = random_mask(batch, 1, read)
    mask[np.arange(batch), 0, slots] = True
    expected = [cache.copy() for cache in caches]
    for row, slot in enumerate(slots):
        expected[0][row, :, slot], expected[1][row, :, slot] = keys[row, :, 0], values[row, :, 0]
    exact = exact_attention(queries, expected[0][:, :, :read], expected[1][:, :, :read], mask, 0.3, softcap)
    for ops in (leaf, reference):
        attended, written = ops.attend_next(
            *(tensor(x, dtype) for x in (queries, keys, values)),
            tuple(tensor(cache, dtype) for cache in caches),
            tensor(np.array(slots, np.int32)),
            tensor(mask),
            0.3,
            softcap,
        )
        assert dtype in str(attended.dtype)
        assert tuple(attended.shape) == (batch, 1, 4 * HEAD_DIM)
        assert_close(to_numpy(attended), exact, dtype, ATTENTION_BOUNDS)
        for found, wanted in zip(written, expected, strict=True):
            np.testing.assert_array_equal(to_numpy(found), wanted)


@pytest.mark.parametrize("slots", [[0], [8], [3, 0, 8]], ids=str)
def test_write_token(leaf, reference, tensor, to_numpy, slots):
    cache, new = normal(len(slots), 2, NUM_SLOTS, HEAD_DIM), normal(len(slots), 2, 1, HEAD_DIM, seed=1)
    expected = cache.copy()
    for row, slot in enumerate(slots):
        expected[row, :, slot] = new[row, :, 0]
    for ops in (leaf, reference):
        written = ops.write_token(tensor(cache), tensor(new), tensor(np.array(slots, np.int32)))
        np.testing.assert_array_equal(to_numpy(written), expected)


@pytest.mark.parametrize(
    ("starts", "counts", "length", "fresh"),
    [
        pytest.param([0, 0], [4, 4], 4, True, id="fresh"),
        pytest.param([0, 0], [4, 0], 4, True, id="fresh-with-an-empty-row"),
        pytest.param([0, 0], [9, 2], 9, True, id="fresh-fills-the-cache"),
        pytest.param([0, 0], [9, 3], 16, True, id="fresh-pads-beyond-capacity"),
        pytest.param([0, 0], [16, 11], 16, True, id="fresh-longer-than-the-ring"),
        pytest.param([3, 0], [4, 2], 4, False, id="after-others"),
        pytest.param([3, 8], [0, 0], 4, False, id="nothing-to-write"),
        pytest.param([7, 8], [4, 3], 4, False, id="wraps"),
        pytest.param([7, 20], [1, 4], 4, False, id="wraps-again"),
        pytest.param([5, 2], [16, 13], 16, False, id="longer-than-the-ring"),
        pytest.param([5, 0], [4, 9], 16, False, id="pads-beyond-capacity"),
    ],
)
def test_write_chunk(leaf, reference, tensor, to_numpy, starts, counts, length, fresh):
    """Slots that hold a position are right; the others may hold anything."""
    new = normal(2, 2, length, HEAD_DIM, seed=1)
    cache = np.full((2, 2, NUM_SLOTS, HEAD_DIM), np.float32(7))
    held = [{}, {}]
    for row in range(2):
        for position in range(starts[row]):
            cache[row, :, position % NUM_SLOTS] = held[row][position % NUM_SLOTS] = np.float32(100 + position)
        for offset in range(counts[row]):
            held[row][(starts[row] + offset) % NUM_SLOTS] = new[row, :, offset]
    places = (np.array(starts, np.int32), np.array(counts, np.int32))
    for ops in (leaf, reference):
        written = to_numpy(ops.write_chunk(tensor(cache), tensor(new), *map(tensor, places), fresh))
        assert written.shape == cache.shape
        for row in range(2):
            for slot, value in held[row].items():
                assert (written[row, :, slot] == value).all(), (row, slot)


@dtypes
def test_compiled_product_of_one_row_on_pytorch(leaf, tensor, to_numpy, dtype, engine):
    if engine != "torch":
        pytest.skip("only PyTorch has a form of its own inside compiled code")
    import torch

    x, weight = rounded(normal(1, 1, 64), dtype), rounded(normal(24, 64, seed=1), dtype)
    with torch.no_grad():
        result = torch.compile(leaf.linear, fullgraph=True)(tensor(x, dtype), tensor(weight, dtype))
    assert_close(to_numpy(result), x.astype(np.float64) @ weight.T.astype(np.float64), dtype)
