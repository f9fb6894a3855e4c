"""Every engine keeps the contract of `interfaces.LanguageModel`."""

from __future__ import annotations

import gc
import re
import weakref

import numpy as np
import pytest

from gemcut.errors import BackendError, ContextLengthError, UsageError
from gemcut.interfaces import SamplingOptions

pytestmark = pytest.mark.backend
GREEDY = SamplingOptions()
TOLERANCE = 3e-5
VOCAB_SIZE = 83


@pytest.fixture(scope="module")
def model(make_model):
    model = make_model()
    yield model
    model.close()


def ids(count, seed=0):
    return np.random.default_rng(seed).integers(0, VOCAB_SIZE, count).tolist()


def decode(model, cache, num_steps, options=GREEDY, seed=1, **arguments):
    """Decode with seeded draws; one set of options serves every row."""
    uniforms = np.random.default_rng(seed).random((cache.batch_size, num_steps), dtype=np.float32)
    listed = options if isinstance(options, list) else [options] * cache.batch_size
    return model.decode(cache, num_steps, listed, uniforms, **arguments)


def started(model, *prompts, max_tokens=200):
    cache = model.new_cache(len(prompts), max_tokens)
    model.prefill(cache, prompts)
    return cache


def next_logprobs(model, cache):
    """Log-probabilities (B, V) of the next token, and the token chosen."""
    decoded = decode(model, cache, 1, num_top_logprobs=VOCAB_SIZE)
    order = np.argsort(decoded.top_token_ids[:, 0], axis=-1)
    return np.take_along_axis(decoded.top_logprobs[:, 0], order, axis=-1)


def log_softmax(logits):
    logits = logits.astype(np.float64)
    peak = logits.max(-1, keepdims=True)
    return logits - peak - np.log(np.exp(logits - peak).sum(-1, keepdims=True))


def test_facts(model, engine):
    assert (model.engine, model.dtype, model.device) == (engine, "float32", "cpu")
    assert model.num_threads >= 1
    assert isinstance(model.num_compiled(), int)
    if engine == "native":
        assert model.num_compiled() == 0
    else:
        assert model.keras_model.count_params() > 0
        assert model.free_bytes() is None


def test_logits_score_and_hidden_states_agree(model, head_weights):
    token_ids = ids(30)
    logits = model.logits(token_ids)
    assert (logits.shape, logits.dtype) == ((30, VOCAB_SIZE), np.float32)
    [scores] = model.score([token_ids])
    assert (scores.shape, scores.dtype) == ((29,), np.float32)
    expected = log_softmax(logits)[np.arange(29), token_ids[1:]]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)
    hidden = model.hidden_states(token_ids)
    assert (hidden.shape, hidden.dtype) == ((30, 32), np.float32)
    raw = hidden @ head_weights(model).T
    np.testing.assert_allclose(logits, 30 * np.tanh(raw / 30), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("num_shared", [0, 5, 40], ids=["nothing", "a-little", "a-beginning"])
def test_continuations_of_what_texts_share(model, num_shared):
    """Texts of unequal lengths, more than are computed at once, some of them alike but for the end."""
    shared = ids(60)[:num_shared]
    texts = [shared + ids(60 + i)[60 - i % 3 :] + ids(90)[70 : 75 + i % 7] for i in range(35)]
    num_scored = [1 + i % 4 for i in range(35)]
    for _ in range(2):  # the second time, the beginning is known
        scores = model.score_continuations(texts, num_scored)
        for text, count, score in zip(texts, num_scored, scores, strict=True):
            logprobs = log_softmax(model.logits(text))[len(text) - count - 1 : -1]
            assert (score.logprobs.shape, score.logprobs.dtype) == ((count,), np.float32)
            expected = logprobs[np.arange(count), text[-count:]]
            np.testing.assert_allclose(score.logprobs, expected, rtol=0, atol=TOLERANCE)
            assert score.is_greedy == bool((logprobs.argmax(-1) == text[-count:]).all())
    assert model.score_continuations([], []) == []


def test_continuation_that_is_greedy(model):
    text = ids(9)
    best = int(model.logits(text)[-1].argmax())
    good, bad = model.score_continuations([[*text, best], [*text, (best + 1) % VOCAB_SIZE]], [1, 1])
    assert (good.is_greedy, bad.is_greedy) == (True, False)


@pytest.mark.parametrize(
    ("texts", "num_scored", "message"),
    [
        ([[1, 2], [1, 2]], [1], "num_scored: found 1 numbers, expected one for each of 2 texts."),
        ([[1, 2]], [2], "num_scored: it is 2 for text 0 of 2 tokens, expected 1 or more and one before."),
        ([[1, 2], [1, 2]], [1, 0], "num_scored: it is 0 for text 1 of 2 tokens, expected 1 or more and one before."),
    ],
    ids=["count", "all", "none"],
)
def test_continuations_that_cannot_be_scored(model, texts, num_scored, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        model.score_continuations(texts, num_scored)


@pytest.mark.keras
def test_chunks_of_a_long_prompt_are_one_prompt(model):
    """700 tokens are two chunks, and 87 windows of the ring; decoding goes on after them."""
    token_ids = ids(703)
    whole = log_softmax(full_forward(model, token_ids))
    chunked = model.logits(token_ids[:700])
    np.testing.assert_allclose(log_softmax(chunked), whole[:700], rtol=0, atol=TOLERANCE)
    cache = started(model, token_ids[:700], max_tokens=800)
    assert cache.lengths.tolist() == [700]
    for position in range(700, 703):
        assert np.abs(next_logprobs(model, cache)[0] - whole[position - 1]).max() < TOLERANCE
        cache.token_ids[0][-1] = token_ids[position]  # in place of the token it chose
        cache.pending = np.array(token_ids[position : position + 1], np.int32)


def full_forward(model, token_ids):
    from keras import ops

    logits = model.keras_model(ops.convert_to_tensor(np.array([token_ids], np.int32)))[0]
    return logits.detach().numpy() if hasattr(logits, "detach") else np.asarray(logits)


def test_several_turns_are_one_long_prompt(model):
    """The token chosen last is not in the cache yet when the next turn begins, also where a row has no next turn."""
    cache = started(model, ids(11), ids(6, seed=1))
    decode(model, cache, 5)
    rows = [list(row) for row in cache.token_ids]
    model.prefill(cache, [ids(13, seed=2), []])
    rows[0] += ids(13, seed=2)
    assert cache.token_ids == rows
    assert cache.lengths.tolist() == [29, 11]
    found = next_logprobs(model, cache)
    for row, token_ids in enumerate(rows):
        expected = log_softmax(model.logits(token_ids))[-1]
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=TOLERANCE)


def test_prefill_in_parts_with_rows_that_get_nothing(model):
    parts = ([ids(5), []], [[], ids(12, seed=2)], [ids(9, seed=3), []], [[], []])
    cache = model.new_cache(2, 200)
    for part in parts:
        model.prefill(cache, part)
    rows = [sum((part[row] for part in parts), []) for row in range(2)]
    assert cache.token_ids == rows
    found = next_logprobs(model, cache)
    for row, token_ids in enumerate(rows):
        expected = log_softmax(model.logits(token_ids))[-1]
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=TOLERANCE)


@pytest.fixture
def computed(model, monkeypatch):
    """Tokens of each call that computes some, in order."""
    counts: list[int] = []
    prefill = model._runner.prefill

    def counted(layers, token_ids, starts, lengths, previous):
        counts.append(int(lengths.sum()))
        return prefill(layers, token_ids, starts, lengths, previous)

    monkeypatch.setattr(model._runner, "prefill", counted)
    return counts


@pytest.mark.keras
def test_what_new_sequences_begin_with_is_computed_once(model, computed):
    shared, ends = ids(70, seed=4), [ids(n, seed=n) for n in (3, 9, 5)]
    cache = started(model, *[shared + end for end in ends])
    assert computed == [70, 17]
    assert cache.num_reused == [0, 70, 70]
    assert cache.token_ids == [shared + end for end in ends]
    found = next_logprobs(model, cache)
    again = started(model, *[shared + end for end in ends])
    assert (computed[2:], again.num_reused) == ([17], [70, 70, 70])
    for row, end in enumerate(ends):
        expected = log_softmax(model.logits(shared + end))[-1]
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=TOLERANCE)
    assert decode(model, again, 5).token_ids[:, 0].tolist() == found.argmax(axis=-1).tolist()


@pytest.mark.keras
def test_equal_prompts_leave_their_last_token_to_compute(model, computed):
    cache = started(model, *[ids(40, seed=5)] * 3)
    assert (computed, cache.num_reused) == ([39, 3], [0, 39, 39])
    assert len({tuple(row) for row in decode(model, cache, 6).token_ids.tolist()}) == 1


@pytest.mark.keras
def test_a_little_more_in_common_does_not_displace_what_is_known(model, computed):
    shared = ids(70, seed=6)
    started(model, [*shared, 1], [*shared, 2])
    for more, counts in ((ids(20, seed=7), [42]), (ids(64, seed=8), [64, 2]), ([], [70, 2])):
        computed.clear()
        started(model, [*shared, *more, 1], [*shared, *more, 2])
        assert computed == counts


@pytest.mark.keras
def test_sequences_that_have_begun_or_are_alone_share_nothing(model, computed):
    cache = started(model, ids(30))
    model.prefill(cache, [ids(30)])
    cache = model.new_cache(2, 100)
    model.prefill(cache, [ids(30), []])
    model.prefill(cache, [ids(30), ids(30)])
    assert computed == [30, 30, 30, 60]


@pytest.mark.keras
def test_a_context_that_several_choices_share_is_computed_once(model, computed):
    context, other = ids(20, seed=9), ids(25, seed=10)
    texts = [[*context, 1, 2], [*context, 3, 2, 1], [*other, 1, 2], [*context, 4, 4]]
    scores = model.score_continuations(texts, [2, 3, 2, 2])
    assert computed == [19 + 24, 2 + 3 + 2 + 2]
    for text, count, score in zip(texts, (2, 3, 2, 2), scores, strict=True):
        expected = log_softmax(model.logits(text))[np.arange(len(text) - count - 1, len(text) - 1), text[-count:]]
        np.testing.assert_allclose(score.logprobs, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.keras
def test_a_beginning_that_could_not_be_computed_is_not_taken_for_known(model, monkeypatch):
    prompts = [[*ids(50, seed=11), 1], [*ids(50, seed=11), 2]]
    with monkeypatch.context() as patch:
        patch.setattr(model._runner, "prefill", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            started(model, *prompts)
    expected = log_softmax(model.logits(prompts[1]))[-1]
    np.testing.assert_allclose(next_logprobs(model, started(model, *prompts))[1], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(GREEDY, id="greedy"),
        pytest.param(SamplingOptions(temperature=1.5, top_k=20), id="drawn"),
        pytest.param(
            SamplingOptions(
                temperature=1.0,
                repetition_penalty=1.4,
                presence_penalty=0.5,
                frequency_penalty=0.8,
                logit_bias=((5, 2.0),),
            ),
            id="penalties",
        ),
    ],
)
def test_one_call_of_many_steps_equals_many_calls_of_one(model, options):
    """Also across the longest burst of 32, and with penalties counted inside it."""
    prompts, steps = [ids(7), ids(12, seed=1)], 40
    uniforms = np.random.default_rng(1).random((2, steps), dtype=np.float32)
    once = started(model, *prompts)
    together = model.decode(once, steps, [options] * 2, uniforms, num_top_logprobs=2)
    singly = started(model, *prompts)
    parts = [model.decode(singly, 1, [options] * 2, uniforms[:, [step]], num_top_logprobs=2) for step in range(steps)]
    assert together.token_ids.shape == (2, steps)
    assert together.token_ids.tolist() == np.concatenate([part.token_ids for part in parts], 1).tolist()
    assert once.token_ids == singly.token_ids
    stacked = np.concatenate([part.logprobs for part in parts], 1)
    np.testing.assert_allclose(together.logprobs, stacked, rtol=0, atol=TOLERANCE)
    assert (together.top_logprobs[:, :, 0] >= together.top_logprobs[:, :, 1]).all()


def test_greedy_takes_the_largest_logit_of_the_full_forward_pass(model):
    cache = started(model, ids(10))
    answer = decode(model, cache, 12).token_ids[0].tolist()
    logits = model.logits([*ids(10), *answer])
    assert answer == logits[9:-1].argmax(-1).tolist()
    assert len(set(answer)) > 1


def test_logprobs_are_of_the_model_not_of_the_cut_distribution(model):
    cache = started(model, ids(10))
    decoded = decode(model, cache, 6, SamplingOptions(temperature=0.5, top_k=3, repetition_penalty=1.5),
                     num_top_logprobs=0)  # fmt: skip
    assert decoded.top_token_ids is None
    [scores] = model.score(cache.token_ids)
    np.testing.assert_allclose(decoded.logprobs[0], scores[9:], rtol=0, atol=TOLERANCE)


def test_without_logprobs_there_are_none(model):
    decoded = decode(model, started(model, ids(10)), 2)
    assert (decoded.logprobs, decoded.top_token_ids, decoded.top_logprobs) == (None, None, None)


def test_stop_ids_end_a_call_early_once_every_row_has_one(model):
    def bias(token_id):
        return SamplingOptions(logit_bias=((token_id, 1e6),))

    cache = started(model, ids(4), ids(6, seed=1))
    decoded = decode(model, cache, 10, [bias(3), bias(4)], stop_token_ids=(3, 4))
    assert decoded.token_ids.tolist() == [[3], [4]]
    decoded = decode(model, cache, 10, [bias(3), bias(4)], stop_token_ids=(3,))
    assert decoded.token_ids.tolist() == [[3] * 10, [4] * 10]
    decoded = decode(model, cache, 10, [bias(3), bias(4)], stop_token_ids=(4, 3))
    assert decoded.token_ids.tolist() == [[3], [4]]
    assert cache.lengths.tolist() == [16, 18]


def test_more_stop_ids_than_the_device_looks_for(model):
    cache = started(model, ids(4))
    options = SamplingOptions(logit_bias=((70, 1e6),))
    decoded = decode(model, cache, 70, options, stop_token_ids=tuple(range(30, 82)))
    assert set(decoded.token_ids[0].tolist()) == {70}
    assert decoded.token_ids.shape[1] < 70


def test_mask_allows_some_tokens_for_one_step(model):
    cache = started(model, ids(4), ids(6, seed=1), ids(3, seed=2))  # the fourth row that is computed has no mask
    mask = np.zeros((3, VOCAB_SIZE), bool)
    mask[0, 7] = mask[1, 8] = mask[2, [9, 10]] = True
    first = decode(model, cache, 1, mask=mask).token_ids[:, 0].tolist()
    for chosen in (first, decode(model, cache, 1, mask=mask).token_ids[:, 0].tolist()):
        assert chosen[:2] == [7, 8]
        assert chosen[2] in (9, 10)


def test_answer_penalties_count_the_answer_only(model):
    """A presence penalty must not touch tokens of the prompt, a repetition penalty must."""
    prompt = list(range(VOCAB_SIZE))
    free = decode(model, started(model, prompt), 1).token_ids[0, 0]
    present = SamplingOptions(presence_penalty=50.0)
    assert decode(model, started(model, prompt), 1, present).token_ids[0, 0] == free
    answer = decode(model, started(model, prompt), 12, present).token_ids[0].tolist()
    assert len(set(answer)) == 12
    only_seen = started(model, [token_id for token_id in prompt if token_id != 5])
    assert decode(model, only_seen, 1, SamplingOptions(repetition_penalty=1e9)).token_ids[0, 0] == 5


def test_empty_prefill_does_not_start_a_new_answer(model):
    cache = started(model, ids(4), ids(4))
    options = SamplingOptions(presence_penalty=50.0)
    before = decode(model, cache, 4, options).token_ids[0].tolist()
    model.prefill(cache, [[], ids(3, seed=1)])
    after = decode(model, cache, 4, options).token_ids[0].tolist()
    assert len({*before, *after}) == 8


@pytest.fixture(scope="module")
def compiled_model(model, make_model, engine):
    if engine != "torch":
        return model
    return make_model(compiled=True)


def use_everything(model, batch_size, prompt_length, steps, seed):
    rows = [ids(prompt_length - row, seed=seed + row) for row in range(batch_size)]
    cache = started(model, *rows, max_tokens=prompt_length + 2 * steps + 20)
    decode(model, cache, steps)
    model.prefill(cache, [ids(1 + row, seed=seed) for row in range(batch_size)])
    decode(model, cache, steps, stop_token_ids=(1,))
    model.logits(rows[0])
    model.score(rows)


@pytest.mark.keras
def test_second_call_in_a_bucket_compiles_nothing(compiled_model):
    use_everything(compiled_model, 3, 18, 3, seed=0)
    compiled = compiled_model.num_compiled()
    assert compiled > 0
    for batch_size, prompt_length, steps in ((3, 20, 1), (4, 32, 33), (4, 19, 9)):
        use_everything(compiled_model, batch_size, prompt_length, steps, seed=5)
    assert compiled_model.num_compiled() == compiled


@pytest.mark.keras
def test_longer_cache_does_not_recompile_decoding_on_pytorch(compiled_model, engine):
    if engine != "torch":
        pytest.skip("the XLA engines compile once for each capacity")
    use_everything(compiled_model, 3, 18, 3, seed=0)
    compiled = compiled_model.num_compiled()
    use_everything(compiled_model, 3, 700, 3, seed=0)
    assert compiled_model.num_compiled() == compiled


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        pytest.param(
            lambda model: model.new_cache(1, 2049),
            ContextLengthError,
            "2049 tokens were asked for, but the model's context is 2048 tokens",
            id="cache-beyond-context",
        ),
        pytest.param(
            lambda model: model.prefill(model.new_cache(2, 9), [[1]]),
            UsageError,
            "token_ids: 1 sequences for a cache of 2",
            id="rows-for-another-cache",
        ),
        pytest.param(
            lambda model: model.prefill(model.new_cache(1, 9), [[1, 83]]),
            UsageError,
            "token_ids: 83 is not a token id, expected 0 to 82",
            id="id-too-large",
        ),
        pytest.param(
            lambda model: model.prefill(model.new_cache(1, 9), [[-1]]),
            UsageError,
            "token_ids: -1 is not a token id, expected 0 to 82",
            id="id-below-0",
        ),
        pytest.param(
            lambda model: model.prefill(model.new_cache(1, 512), [[1] * 513]),
            ContextLengthError,
            "a sequence of 513 tokens does not fit the cache of 512",
            id="prompt-beyond-cache",
        ),
        pytest.param(
            lambda model: decode(model, started(model, [1] * 500, max_tokens=512), 13),
            ContextLengthError,
            "a sequence of 513 tokens does not fit the cache of 512",
            id="answer-beyond-cache",
        ),
        pytest.param(
            lambda model: decode(model, started(model, [1]), 0),
            UsageError,
            "num_steps is 0, expected at least 1",
            id="no-steps",
        ),
        pytest.param(
            lambda model: decode(model, started(model, [1]), 2, mask=np.ones((1, VOCAB_SIZE), bool)),
            UsageError,
            "mask: it holds for one step, but num_steps is 2",
            id="mask-of-many-steps",
        ),
        pytest.param(
            lambda model: decode(model, started(model, [1], []), 1),
            UsageError,
            "cache: a sequence is empty; prefill at least one token before decoding",
            id="decode-of-nothing",
        ),
        pytest.param(
            lambda model: model.logits([]),
            UsageError,
            "token_ids: a sequence is empty, expected at least one token",
            id="logits-of-nothing",
        ),
        pytest.param(
            lambda model: model.score([[1, 2], []]),
            UsageError,
            "token_ids: a sequence is empty, expected at least one token",
            id="score-of-nothing",
        ),
    ],
)
def test_wrong_use_is_named(model, call, error, message):
    with pytest.raises(error, match=message):
        call(model)


def test_refused_prefill_leaves_the_cache_as_it_was(model):
    cache = started(model, ids(4), ids(5))
    with pytest.raises(UsageError, match="83 is not a token id"):
        model.prefill(cache, [[1, 2], [83]])
    assert cache.token_ids == [ids(4), ids(5)]
    assert (
        decode(model, cache, 3).token_ids.tolist()
        == decode(model, started(model, ids(4), ids(5)), 3).token_ids.tolist()
    )


@pytest.mark.keras
def test_closed_model_frees_its_weights(make_model):
    model = make_model(num_hidden_layers=1, layer_types=("full_attention",))
    decode(model, started(model, ids(5)), 2)
    weights = weakref.ref(model.keras_model)
    model.close()
    gc.collect()
    assert weights() is None
    with pytest.raises(BackendError, match="model: it was closed, so its weights are gone. Load it again"):
        _ = model.keras_model


def test_closed_model_says_so(make_model):
    model = make_model()
    cache = started(model, ids(5))
    decode(model, cache, 2)
    model.close()
    calls = [
        lambda: model.num_compiled(),
        lambda: model.new_cache(1, 9),
        lambda: model.prefill(cache, [[1]]),
        lambda: decode(model, cache, 1),
        lambda: model.logits([1]),
        lambda: model.score([[1, 2]]),
        lambda: model.hidden_states([1]),
    ]
    for call in calls:
        with pytest.raises(BackendError, match="model: it was closed, so its weights are gone. Load it again"):
            call()
    model.close()
