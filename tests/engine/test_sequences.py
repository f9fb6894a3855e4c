"""Sequences of the native engine: reuse of beginnings, state files, guessing ahead, interruption."""

from __future__ import annotations

import contextlib
import signal

import numpy as np
import pytest

from gemcut.engine import NativeCheckpoint, NativeLanguageModel
from gemcut.errors import BackendError, CheckpointError, ContextLengthError, NotFoundError, UsageError
from gemcut.interfaces import SamplingOptions

pytestmark = pytest.mark.native
GREEDY = SamplingOptions()
PROMPT = [2, *range(400, 440)]


def zeros(rows, steps=1):
    return np.zeros((rows, steps), np.float32)


def answers(model, cache, steps=20, **options):
    """Greedy tokens of every row."""
    rows = cache.batch_size
    return model.decode(cache, steps, [GREEDY] * rows, zeros(rows, steps), **options).token_ids.tolist()


def started(model, *prompts, max_tokens=110):
    cache = model.new_cache(len(prompts), max_tokens)
    model.prefill(cache, prompts)
    return cache


@pytest.fixture
def plain(tiny_folder):
    """The model without reuse and without guesses: what the others must equal."""
    with NativeCheckpoint(tiny_folder) as checkpoint:
        model = NativeLanguageModel(checkpoint, threads=1, prefix_cache_bytes=0, prompt_lookup=False)
    yield model
    model.close()


def test_a_prompt_goes_on_from_an_ended_text(model, plain):
    first = started(model, PROMPT)
    assert first.num_reused == [0]
    answer = answers(model, first)[0]
    del first
    assert model.kept_bytes > 0
    text = [*PROMPT, *answer]
    prompts = {
        "longer": ([*text, 9, 10, 11], len(text) - 1),  # the last token chosen was never stored
        "the same": (PROMPT, len(PROMPT) - 1),
        "a beginning": (PROMPT[:30], 29),
        "branches": ([*PROMPT[:25], 600, 601], 25),
        "another": ([3, *PROMPT], 0),
        "too little in common": ([*PROMPT[:15], 600, 601], 0),
    }
    for name, (prompt, expected) in prompts.items():
        cache = started(model, prompt)
        assert cache.num_reused == [expected], name
        assert answers(model, cache) == answers(plain, started(plain, prompt)), name


def test_logits_after_reuse_are_the_same_to_the_last_bit(model, plain):
    prompt = [*PROMPT[:30], 600]
    started(model, PROMPT)
    cache = started(model, prompt)
    assert cache.num_reused == [30]
    reused = model.decode(cache, 1, [GREEDY], zeros(1), num_top_logprobs=5)
    fresh = plain.decode(started(plain, prompt), 1, [GREEDY], zeros(1), num_top_logprobs=5)
    assert (reused.top_token_ids == fresh.top_token_ids).all()
    assert (reused.top_logprobs == fresh.top_logprobs).all()


def test_rows_of_one_batch_share_their_beginning(model, plain):
    prompts = [[5, 6], PROMPT, PROMPT, [*PROMPT[:20], 600], [*PROMPT, 601, 602], PROMPT[:18]]
    cache = started(model, *prompts)
    assert cache.num_reused == [0, 0, len(PROMPT) - 1, 20, len(PROMPT), 17]
    assert cache.token_ids == prompts
    assert answers(model, cache) == [answers(plain, started(plain, prompt))[0] for prompt in prompts]


def test_two_rows_go_on_from_one_ended_text(model, plain):
    started(model, PROMPT)
    prompts = [[*PROMPT, 7], [*PROMPT, 8]]
    cache = started(model, *prompts)
    assert cache.num_reused == [len(PROMPT)] * 2
    assert answers(model, cache) == [answers(plain, started(plain, prompt))[0] for prompt in prompts]


def test_only_a_first_prompt_is_looked_up(model, plain):
    started(model, PROMPT)
    cache, fresh = started(model, [5]), started(plain, [5])
    for each, of in ((model, cache), (plain, fresh)):
        each.prefill(of, [PROMPT])
    assert cache.num_reused == [0]
    assert answers(model, cache) == answers(plain, fresh)


def test_texts_that_are_alive_are_reused_too(model, plain):
    one = started(model, PROMPT)
    two = started(model, [*PROMPT[:30], 600])
    assert two.num_reused == [30]
    assert answers(model, one) == answers(plain, started(plain, PROMPT))
    assert answers(model, two) == answers(plain, started(plain, [*PROMPT[:30], 600]))


def test_limit_of_what_is_kept(model):
    assert model.prefix_cache_bytes == 512 << 20
    started(model, PROMPT)
    assert model.kept_bytes > 0
    model.prefix_cache_bytes = 0
    assert model.kept_bytes == 0
    started(model, PROMPT)
    assert model.kept_bytes == 0
    assert started(model, PROMPT, PROMPT).num_reused == [0, 0]
    with pytest.raises(UsageError, match="prefix_cache_bytes is -1, expected at least 0"):
        model.prefix_cache_bytes = -1


def test_closing_frees_what_is_kept(model):
    started(model, PROMPT)
    model.close()
    with pytest.raises(BackendError, match="it was closed"):
        _ = model.kept_bytes


def test_limit_below_zero(tiny_folder):
    with NativeCheckpoint(tiny_folder) as checkpoint, pytest.raises(UsageError, match="prefix_cache_bytes is -5"):
        NativeLanguageModel(checkpoint, prefix_cache_bytes=-5)


def test_state_goes_on_in_another_model_object(model, plain, tmp_path):
    cache = started(model, [5, 6, 7], PROMPT)
    answers(model, cache, 5)
    model.save_state(cache, tmp_path / "state", row=1)
    loaded = plain.load_state(tmp_path / "state", 100)
    assert (loaded.batch_size, loaded.capacity, loaded.token_ids) == (1, 100, cache.token_ids[1:])
    assert answers(plain, loaded)[0] == answers(model, cache)[1]
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_wrong_states_are_named(model, tiny_folder, write_tiny_model, tmp_path):
    path = tmp_path / "state"
    cache = started(model, PROMPT)
    model.save_state(cache, path)
    with pytest.raises(UsageError, match="row: 1 is none, expected 0 to 0"):
        model.save_state(cache, path, row=1)
    with pytest.raises(UsageError, match="it is empty, expected at least one token to save"):
        model.save_state(model.new_cache(1, 10), path)
    with pytest.raises(BackendError, match="it cannot be written"):
        model.save_state(cache, tmp_path / "no" / "where")
    with pytest.raises(ContextLengthError, match="its sequence has 41 tokens, which do not fit a cache of 40"):
        model.load_state(path, 40)
    with pytest.raises(NotFoundError):
        model.load_state(tmp_path / "none", 50)
    with NativeCheckpoint(tiny_folder) as checkpoint:
        exact = NativeLanguageModel(checkpoint, dtype="float32")
    with pytest.raises(
        CheckpointError, match="its keys and values are bfloat16, but this engine keeps them in float32"
    ):
        exact.load_state(path, 50)
    with NativeCheckpoint(write_tiny_model(tmp_path / "other", sliding_window=9)) as checkpoint:
        other = NativeLanguageModel(checkpoint)
    with pytest.raises(CheckpointError, match="it was saved from another model"):
        other.load_state(path, 50)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="do not agree with its checksum"):
        model.load_state(path, 50)


@pytest.mark.parametrize("burst", [1, 2, 8, 60])
def test_guesses_do_not_change_the_tokens(model, plain, burst):
    prompt = [2, *range(400, 415), *range(400, 415), 400]
    cache, fresh = started(model, prompt), started(plain, prompt)
    tokens: list[int] = []
    while len(tokens) < 60:
        tokens += answers(model, cache, min(burst, 60 - len(tokens)))[0]
    assert tokens == answers(plain, fresh, 60)[0]
    guessed, right = model.lookup_counts
    assert 0 <= right <= guessed
    assert guessed > 0 if burst >= 8 else burst > 1 or guessed == 0
    assert plain.lookup_counts == (0, 0)


def test_a_stop_ends_the_tokens_that_were_guessed_with_it(model, plain):
    prompt = [2, *range(400, 415), *range(400, 415), 400]
    whole = answers(plain, started(plain, prompt), 60)[0]
    for stop in sorted(set(whole)):
        cache = started(model, prompt)
        first = answers(model, cache, 60, stop_token_ids=[stop])[0]
        assert first == whole[: whole.index(stop) + 1]
        rest = answers(model, cache, 60 - len(first))[0] if len(first) < 60 else []
        assert first + rest == whole


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (SamplingOptions(temperature=0.7), {}),
        (SamplingOptions(repetition_penalty=1.1), {}),
        (SamplingOptions(logit_bias=((5, 1.0),)), {}),
        (GREEDY, {"num_top_logprobs": 0}),
    ],
    ids=["temperature", "penalty", "bias", "logprobs"],
)
def test_nothing_is_guessed_where_more_than_the_best_token_counts(model, options, more):
    prompt = [2, *range(400, 415), *range(400, 415), 400]
    model.decode(started(model, prompt), 40, [options], zeros(1, 40) + 0.5, **more)
    assert model.lookup_counts == (0, 0)


def test_nothing_is_guessed_for_several_rows(model):
    prompt = [2, *range(400, 415), *range(400, 415), 400]
    answers(model, started(model, prompt, prompt), 40)
    assert model.lookup_counts == (0, 0)


def test_guessing_can_be_switched_off(tiny_folder, model, monkeypatch):
    monkeypatch.setenv("GEMCUT_PROMPT_LOOKUP", "0")
    with NativeCheckpoint(tiny_folder) as checkpoint:
        off, on = NativeLanguageModel(checkpoint), NativeLanguageModel(checkpoint, prompt_lookup=True)
    assert (off.prompt_lookup, on.prompt_lookup, model.prompt_lookup) == (False, True, True)
    model.prompt_lookup = False
    assert not model.prompt_lookup


def test_ctrl_c_while_guessing_leaves_a_text_that_goes_on(model, plain, interrupted_beyond):
    prompt = [2, *range(400, 415), *range(400, 415), 400]
    whole = answers(plain, started(plain, prompt, max_tokens=120), 80)[0]
    done = whole
    while len(done) == len(whole):  # until the alarm rang in time
        cache = started(model, prompt, max_tokens=120)
        with contextlib.suppress(KeyboardInterrupt), interrupted_beyond(cache, len(prompt) + 3):
            answers(model, cache, 80)
        done = cache.token_ids[0][len(prompt) :]
    assert done
    assert done + answers(model, cache, 80 - len(done))[0] == whole


class Interrupted(Exception):
    """What the alarm raises."""


def test_an_interrupted_prefill_goes_on_from_its_last_chunk(write_tiny_model, tmp_path):
    """Its tokens stay; those of the chunks that were not computed wait for the next call."""
    with NativeCheckpoint(write_tiny_model(tmp_path / "long", max_position_embeddings=40000)) as checkpoint:
        model = NativeLanguageModel(checkpoint, threads=1)
    prompt = [2, *range(3, 700)] * 30

    def stop(*_):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, stop)
    try:
        cache = model.new_cache(1, len(prompt) + 10)
        while not cache.lengths[0]:  # the alarm may come before the engine has the tokens
            signal.setitimer(signal.ITIMER_REAL, 0.03)
            with pytest.raises(Interrupted):
                model.prefill(cache, [prompt])
    finally:
        signal.signal(signal.SIGALRM, before)
    assert cache.token_ids == [prompt]
    other = started(model, prompt, max_tokens=len(prompt) + 10)
    assert other.num_reused[0] < len(prompt) - 1
    assert other.num_reused[0] % 256 == 0
    assert answers(model, cache, 5) == answers(model, other, 5)


@pytest.mark.parametrize("kept_bytes", [0, 20_000, 512 << 20])
def test_no_sequence_ever_takes_more_than_was_said(write_tiny_model, tmp_path, kept_bytes):
    """Keys and values, and what the sliding layers overwrite; also of one that takes over what another has computed."""
    with NativeCheckpoint(write_tiny_model(tmp_path / "long", max_position_embeddings=2000)) as checkpoint:
        model = NativeLanguageModel(checkpoint, threads=1, prefix_cache_bytes=kept_bytes)
    prompt = np.random.default_rng(1).integers(3, 700, 1800).tolist()
    for length, room in ((1800, 1900), (1700, 1701), (900, 1000), (100, 1900), (20, 21)):
        cache = started(model, prompt[:length], max_tokens=room)
        assert cache.num_reused[0] in (0, length - 1)
        assert cache.num_bytes <= model.sequence_bytes(room)
        answers(model, cache, steps=1)
        assert cache.num_bytes <= model.sequence_bytes(room)
    bare = model.sequence_bytes(8)
    model.prefix_cache_bytes = 0
    assert model.sequence_bytes(8) == bare  # all lies in the window
    assert (model.sequence_bytes(2000) < cache_bytes_of(model, kept_bytes, 2000)) == (kept_bytes > 0)
    model.close()


def cache_bytes_of(model, kept_bytes, max_tokens):
    """What a sequence may take while ended ones keep so much."""
    model.prefix_cache_bytes = kept_bytes
    return model.sequence_bytes(max_tokens)
