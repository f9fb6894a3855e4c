"""Both samplers, `keras.ops` and NumPy, against the rules written out in float64."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from gemcut.interfaces import SamplingOptions

pytestmark = [pytest.mark.backend, pytest.mark.keras]
VOCAB_SIZE = 1000  # no multiple of the 512 blocks that the draw works in
NEAR = 2e-6  # float32 sums of probabilities may fall on either side of a border that is nearer than this


def float64_choices(logits, option, seen, answered, uniform, mask):
    """Ids that the rules allow for one row, more than one only where a border is within NEAR."""
    scores = logits.astype(np.float64)
    repeated = np.unique(np.array(seen, int))
    penalty = option.repetition_penalty
    scores[repeated] = np.where(scores[repeated] > 0, scores[repeated] / penalty, scores[repeated] * penalty)
    counts = np.bincount(np.array(answered, int), minlength=len(scores))
    scores -= option.presence_penalty * (counts > 0) + option.frequency_penalty * counts
    for token_id, bias in option.logit_bias:
        scores[token_id] += bias
    if mask is not None:
        scores[~mask] = -np.inf
    if option.temperature == 0:
        return {int(scores.argmax())}
    weights = np.exp((scores - scores.max()) / option.temperature)
    if 0 < option.top_k < len(weights):
        weights[weights < np.sort(weights)[-option.top_k]] = 0
    allowed = set()
    for nudge in (-NEAR, 0, NEAR):
        kept = top_p_and_min_p(weights, option, nudge)
        running = np.cumsum(kept) / kept.sum()
        low, high = (min(max(uniform + shift, 0.0), 1.0) for shift in (-NEAR, NEAR))
        first, last = np.searchsorted(running, [low, high], side="right")
        between = np.arange(first, min(last, len(kept) - 1) + 1)
        allowed |= set(between[kept[between] > 0].tolist())
    return allowed


def top_p_and_min_p(weights, option, nudge):
    if option.top_p < 1:
        order = np.sort(weights)[::-1]
        reached = np.searchsorted(np.cumsum(order) / order.sum(), option.top_p + nudge, side="left")
        weights = np.where(weights >= order[min(reached, len(order) - 1)], weights, 0)
    return np.where(weights >= option.min_p, weights, 0)


CUTS = {
    "none": {},
    "top-k": {"top_k": 7},
    "top-k-1": {"top_k": 1},
    "top-p": {"top_p": 0.8},
    "top-p-tiny": {"top_p": 1e-6},
    "top-p-nearly-all": {"top_p": 0.9999},
    "min-p": {"min_p": 0.05},
    "all-cuts": {"top_k": 40, "top_p": 0.9, "min_p": 0.02},
    "top-k-above-v": {"top_k": 10**6, "top_p": 0.95},
}
TEMPERATURES = (0.0, 0.3, 1.0, 2.5)
PENALTIES = {
    "none": {},
    "repetition": {"repetition_penalty": 1.3},
    "presence-and-frequency": {"presence_penalty": 0.7, "frequency_penalty": 0.4},
    "bias": {"logit_bias": ((3, 5.0), (4, -1e9), (5, -np.inf), (3, 1.0))},
    "all": {
        "repetition_penalty": 0.8,
        "presence_penalty": -0.5,
        "frequency_penalty": 1.5,
        "logit_bias": ((11, 4.0), (12, -100.0)),
    },
}


def compiled(engine, choose_tokens, variant):
    """The sampler as the JAX runner has it, in one program; as it is on the others."""
    bound = functools.partial(choose_tokens, variant=variant)
    if engine != "jax":
        return bound
    import jax

    return jax.jit(bound)


def choose(engine, options, logits, uniforms, seen, answered, mask=None):
    """Ids from `keras.ops` and from NumPy."""
    from keras import ops

    from gemcut.model import sampling, sampling_host

    variant = sampling.SamplingVariant.of(options, None, mask is not None)
    arrays = sampling.sampling_arrays(options, variant, logits.shape[1], seen, answered, mask)
    on_host = sampling_host.choose_tokens(logits, arrays, uniforms, variant)
    tensors = {name: ops.convert_to_tensor(array) for name, array in arrays.items()}
    on_device = compiled(engine, sampling.choose_tokens, variant)(
        ops.convert_to_tensor(logits), tensors, ops.convert_to_tensor(uniforms)
    )
    assert on_host.dtype == np.int32
    return on_device.numpy() if engine == "torch" else np.asarray(on_device), on_host


def cases(penalties, num_draws=6, vocab_size=VOCAB_SIZE, cuts=CUTS, temperatures=TEMPERATURES, seed=0):
    """Rows of one batch: every cut and temperature, several draws of each, with what was seen before."""
    generator = np.random.default_rng(seed)
    options = [
        SamplingOptions(temperature=temperature, **cut, **penalties)
        for cut in cuts.values()
        for temperature in temperatures
        for _ in range(num_draws)
    ]
    logits = (generator.standard_normal((len(options), vocab_size)) * 3).astype(np.float32)
    uniforms = generator.random(len(options), dtype=np.float32)
    best = np.argsort(-logits, axis=1)[:, :8]  # what penalties are to change must matter
    answered = [generator.choice(row, 12).tolist() for row in best]
    seen = [[*row, *generator.integers(0, vocab_size, 20).tolist()] for row in answered]
    return options, logits, uniforms, seen, answered


@pytest.mark.parametrize("masked", [False, True], ids=["free", "masked"])
@pytest.mark.parametrize("penalties", PENALTIES.values(), ids=PENALTIES)
def test_every_combination_by_the_rules(engine, penalties, masked):
    options, logits, uniforms, seen, answered = cases(penalties)
    mask = np.random.default_rng(3).random(logits.shape) < 0.3 if masked else None
    chosen = choose(engine, options, logits, uniforms, seen, answered, mask)
    allowed = [
        float64_choices(logits[row], option, seen[row], answered[row], uniforms[row], mask[row] if masked else None)
        for row, option in enumerate(options)
    ]
    for ids in chosen:
        assert [row for row, token_id in enumerate(ids.tolist()) if token_id not in allowed[row]] == []
    assert np.mean([len(ids) == 1 for ids in allowed]) > 0.98  # the tolerance decides next to nothing
    assert (chosen[0] == chosen[1]).mean() > 0.98


@pytest.mark.parametrize("vocab_size", [1, 2, 511, 512, 513], ids=lambda size: f"vocabulary-{size}")
def test_vocabularies_around_the_block_size(engine, vocab_size):
    options, logits, uniforms, seen, answered = cases({}, 2, vocab_size, {"top-p": CUTS["top-p"], "none": {}}, (1.0,))
    for ids in choose(engine, options, logits, uniforms, seen, answered):
        for row, option in enumerate(options):
            assert ids[row] in float64_choices(logits[row], option, [], [], uniforms[row], None)


def test_gemma_3_vocabulary(engine):
    cuts = {name: CUTS[name] for name in ("none", "top-p-nearly-all", "all-cuts")}
    options, logits, uniforms, seen, answered = cases(PENALTIES["all"], 1, 262_144, cuts, (1.0,))
    for ids in choose(engine, options, logits, uniforms, seen, answered):
        for row, option in enumerate(options):
            assert ids[row] in float64_choices(logits[row], option, seen[row], answered[row], uniforms[row], None)


def test_greedy_is_the_exact_argmax(engine):
    """The smallest float32 difference decides, and of equals the first."""
    logits = np.full((3, VOCAB_SIZE), np.float32(20))
    logits[0, 777] = np.nextafter(np.float32(20), np.float32(21))
    logits[1, [5, 900]] = 21
    logits[2] = np.random.default_rng(0).standard_normal(VOCAB_SIZE)
    options = [SamplingOptions()] * 3
    for ids in choose(engine, options, logits, np.full(3, 0.9, np.float32), [[]] * 3, [[]] * 3):
        assert ids.tolist() == [777, 5, int(logits[2].argmax())]


def test_greedy_rows_beside_drawn_ones_stay_greedy(engine):
    options = [SamplingOptions(), SamplingOptions(temperature=5.0)] * 20
    logits = np.random.default_rng(0).standard_normal((40, VOCAB_SIZE)).astype(np.float32)
    uniforms = np.random.default_rng(1).random(40, dtype=np.float32)
    for ids in choose(engine, options, logits, uniforms, [[]] * 40, [[]] * 40):
        assert (ids == logits.argmax(1))[::2].all()
        assert not (ids == logits.argmax(1))[1::2].all()


@pytest.mark.parametrize(
    "option",
    [
        pytest.param(SamplingOptions(temperature=1.0), id="plain"),
        pytest.param(SamplingOptions(temperature=0.7, top_k=6, top_p=0.9, min_p=0.03), id="all-cuts"),
    ],
)
def test_draws_have_the_distribution(engine, option):
    """Chi-square of 4,000 seeded draws; the bound is passed by chance once in 10,000 times, and the seed is fixed."""
    num_draws, vocab_size = 4000, 20
    generator = np.random.default_rng(7)
    logits = generator.standard_normal(vocab_size).astype(np.float32)
    uniforms = generator.random(num_draws, dtype=np.float32)
    weights = np.exp((logits.astype(np.float64) - logits.max()) / option.temperature)
    if option.top_k:
        weights[weights < np.sort(weights)[-option.top_k]] = 0
        weights = top_p_and_min_p(weights, option, 0)
    expected = num_draws * weights / weights.sum()
    likely = expected > 0
    assert 2 < likely.sum() < vocab_size or not option.top_k
    # Wilson and Hilferty's approximation of the chi-square quantile at 0.9999, of which the normal one is 3.719.
    freedom = likely.sum() - 1
    bound = freedom * (1 - 2 / (9 * freedom) + 3.719 * np.sqrt(2 / (9 * freedom))) ** 3
    batch = np.broadcast_to(logits, (num_draws, vocab_size)).copy()
    for ids in choose(engine, [option] * num_draws, batch, uniforms, [[]] * num_draws, [[]] * num_draws):
        counts = np.bincount(ids, minlength=vocab_size)
        assert counts[~likely].sum() == 0
        assert ((counts - expected)[likely] ** 2 / expected[likely]).sum() < bound


def test_ties_of_top_k_stay_together(engine):
    logits = np.zeros((400, VOCAB_SIZE), np.float32)
    logits[:, [3, 600, 999]] = 4.0
    logits[:, 10] = 5.0
    uniforms = np.linspace(0, 1, 400, endpoint=False, dtype=np.float32)
    for ids in choose(
        engine, [SamplingOptions(temperature=1.0, top_k=2)] * 400, logits, uniforms, [[]] * 400, [[]] * 400
    ):
        assert sorted(set(ids.tolist())) == [3, 10, 600, 999]


@pytest.mark.parametrize("uniform", [0.0, np.nextafter(np.float32(1), np.float32(0))], ids=["zero", "nearly-one"])
def test_ends_of_the_draw_fall_on_tokens_with_weight(engine, uniform):
    logits = np.random.default_rng(0).standard_normal((50, VOCAB_SIZE)).astype(np.float32)
    mask = np.random.default_rng(1).random(logits.shape) < 0.01
    mask[:, 500] = True
    uniforms = np.full(50, uniform, np.float32)
    for ids in choose(engine, [SamplingOptions(temperature=1.0)] * 50, logits, uniforms, [[]] * 50, [[]] * 50, mask):
        ends = [np.flatnonzero(row)[0 if uniform == 0 else -1] for row in mask]
        assert ids.tolist() == ends


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_mask_of_one_token_leaves_that_token(engine, temperature):
    logits = np.random.default_rng(0).standard_normal((4, VOCAB_SIZE)).astype(np.float32)
    mask = np.zeros(logits.shape, bool)
    wanted = [0, 511, 512, VOCAB_SIZE - 1]
    mask[np.arange(4), wanted] = True
    options = [SamplingOptions(temperature=temperature, top_p=0.5 if temperature else 1.0)] * 4
    for ids in choose(engine, options, logits, np.full(4, 0.5, np.float32), [[]] * 4, [[]] * 4, mask):
        assert ids.tolist() == wanted


@pytest.mark.parametrize("num_top", [0, 1, 5])
def test_top_logprobs_are_of_the_models_own_distribution(engine, to_numpy, num_top):
    from keras import ops

    from gemcut.model import sampling, sampling_host

    logits = (np.random.default_rng(0).standard_normal((3, VOCAB_SIZE)) * 4).astype(np.float32)
    token_ids = np.array([1, 2, 999], np.int32)
    exact = logits - np.log(np.exp(logits.astype(np.float64)).sum(1, keepdims=True))
    best = np.argsort(-logits, axis=1)[:, :num_top]
    on_device = sampling.top_logprobs(ops.convert_to_tensor(logits), ops.convert_to_tensor(token_ids), num_top)
    for found in (list(map(to_numpy, on_device)), sampling_host.top_logprobs(logits, token_ids, num_top)):
        assert len(found) == (3 if num_top else 1)
        np.testing.assert_allclose(found[0], exact[np.arange(3), token_ids], rtol=0, atol=1e-5)
        if num_top:
            assert found[1].tolist() == best.tolist()
            np.testing.assert_allclose(found[2], np.take_along_axis(exact, best, 1), rtol=0, atol=1e-5)


def test_variant_holds_only_what_some_row_needs(engine):
    from gemcut.model.sampling import SamplingVariant, sampling_arrays

    greedy = SamplingVariant.of([SamplingOptions()], None, False)
    assert greedy == SamplingVariant()
    assert sampling_arrays([SamplingOptions()], greedy, 9, [[1]], [[]]) == {}
    drawn = SamplingVariant.of([SamplingOptions(), SamplingOptions(temperature=1.0)], 3, True)
    assert dataclasses.asdict(drawn) == {"draws": True, "penalties": False, "num_top_logprobs": 3, "masked": True}
    penalised = SamplingVariant.of([SamplingOptions(logit_bias=((1, 2.0),)), SamplingOptions()], None, False)
    arrays = sampling_arrays([SamplingOptions(logit_bias=((1, 2.0),)), SamplingOptions()], penalised, 4, [[1], []],
                             [[1, 1], []])  # fmt: skip
    assert arrays["seen"].tolist() == [[False, True, False, False], [False] * 4]
    assert arrays["counts"].tolist() == [[0, 2, 0, 0], [0] * 4]
    assert arrays["bias"].tolist() == [[0, 2, 0, 0], [0] * 4]
