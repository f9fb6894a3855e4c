"""Texts that join and leave at any pass of the native engine: the same answers as alone, to the last bit."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading

import numpy as np
import pytest

from gemcut.engine import NativeCheckpoint, NativeLanguageModel
from gemcut.errors import BackendError, ContextLengthError, UsageError
from gemcut.interfaces import ContinuousModel, SamplingOptions, Share

pytestmark = pytest.mark.native
GREEDY = SamplingOptions()
PROMPT = [2, *range(400, 440)]
WORDS = 22  # of a mask for 704 tokens


def zeros(rows, steps=1):
    return np.zeros((rows, steps), np.float32)


def mask(*token_ids):
    words = np.zeros(WORDS, np.uint32)
    for token_id in token_ids:
        words[token_id // 32] |= np.uint32(1 << token_id % 32)
    return words


def alone(model, prompt, steps, options=GREEDY, uniforms=None, **rest):
    """What the model's own decoding loop chooses after one prompt."""
    cache = model.new_cache(1, len(prompt) + steps)
    model.prefill(cache, [prompt])
    return model.decode(cache, steps, [options], zeros(1, steps) if uniforms is None else uniforms, **rest)


def read(model, text):
    """Compute all of a text's prompt, a few tokens at a time; returns the first chosen one."""
    chosen = []
    while not chosen:
        chosen = model.run_pass([Share(text, 7)])[0].token_ids
    return chosen


@pytest.fixture
def plain(tiny_folder):
    """The model without reuse and without guesses: what the others must equal."""
    with NativeCheckpoint(tiny_folder) as checkpoint:
        model = NativeLanguageModel(checkpoint, threads=1, prefix_cache_bytes=0, prompt_lookup=False)
    yield model
    model.close()


def test_the_engine_is_continuous(model):
    assert isinstance(model, ContinuousModel)
    assert model.sequence_bytes(8) == model.new_cache(1, 8).num_bytes


def test_texts_that_join_and_leave_give_the_answers_of_one_by_one(model, plain):
    """Seeded: prompts come in parts of any size beside answers, drawn and greedy ones, and end at any time."""
    random = np.random.default_rng(3)
    drawing = SamplingOptions(temperature=1.2, top_p=0.9, repetition_penalty=1.1, presence_penalty=0.3)
    running, checked = [], 0
    for _ in range(150):
        if len(running) < 6 and random.random() < 0.4:
            prompt = random.integers(3, 700, random.integers(1, 60)).tolist()
            options, length = (drawing, GREEDY)[int(random.integers(2))], int(random.integers(1, 30))
            text = model.new_text(prompt, len(prompt) + length, options)
            running.append((text, prompt, options, random.random((1, length), np.float32), []))
        shares = [
            Share(text, int(random.integers(1, 40)), uniforms[0, len(answer) : len(answer) + 1])
            for text, _, _, uniforms, answer in running
        ]
        random.shuffle(shares)
        for share, chosen in zip(shares, model.run_pass(shares), strict=True):
            next(row for row in running if row[0] is share.text)[4].extend(chosen.token_ids)
        for row in list(running):
            _, prompt, options, uniforms, answer = row
            if len(answer) == uniforms.shape[1] or random.random() < 0.03:
                running.remove(row)
                if answer:
                    wanted = alone(plain, prompt, len(answer), options, uniforms[:, : len(answer)])
                    assert answer == wanted.token_ids[0].tolist()
                    checked += 1
    assert checked > 20


def test_log_probabilities_are_each_texts_own(model, plain):
    with_top = model.new_text(PROMPT, 60, GREEDY, num_top_logprobs=3)
    with_own = model.new_text(PROMPT[:9], 60, GREEDY, num_top_logprobs=0)
    without = model.new_text(PROMPT[:20], 60, GREEDY)
    first, second, third = model.run_pass([Share(text, 99) for text in (with_top, with_own, without)])
    wanted = alone(plain, PROMPT, 1, num_top_logprobs=3)
    assert (first.token_ids, first.logprobs) == (wanted.token_ids[0].tolist(), wanted.logprobs[0].tolist())
    pairs = zip(wanted.top_token_ids[0, 0].tolist(), wanted.top_logprobs[0, 0].tolist(), strict=True)
    assert first.top == [list(pairs)]
    assert second.logprobs == alone(plain, PROMPT[:9], 1, num_top_logprobs=0).logprobs[0].tolist()
    assert (second.top, third.logprobs, third.top) == (None, None, None)


def test_a_burst_ends_early_for_all_once_a_text_meets_its_stop_id(model, plain):
    answers = [alone(plain, prompt, 12).token_ids[0].tolist() for prompt in (PROMPT, PROMPT[:7])]
    stop = answers[0][3]
    assert stop not in answers[0][:3]
    texts = [
        model.new_text(prompt, 60, GREEDY, stop_token_ids=stops)
        for prompt, stops in ((PROMPT, (9, stop)), (PROMPT[:7], (9,)))
    ]
    begun = [chosen.token_ids for chosen in model.run_pass([Share(text, 99) for text in texts])]
    rest = [chosen.token_ids for chosen in model.run_pass([Share(text, 1) for text in texts], 11)]
    assert [[*one, *more] for one, more in zip(begun, rest, strict=True)] == [answer[:4] for answer in answers]


def test_a_lone_greedy_text_may_guess_ahead_and_stops_as_others_do(model, plain):
    wanted = alone(plain, PROMPT, 60).token_ids[0].tolist()
    text = model.new_text(PROMPT, 110, GREEDY, stop_token_ids=[wanted[40]])
    answer = read(model, text)
    while len(answer) < 60 and wanted[40] not in answer:
        answer += model.run_pass([Share(text, 1)], min(9, 60 - len(answer)))[0].token_ids
    assert answer == wanted[: wanted.index(wanted[40]) + 1]


def test_what_others_have_computed_is_taken_over(model, plain):
    first = model.new_text(PROMPT, 60, GREEDY)
    read(model, first)
    second = model.new_text([*PROMPT[:30], 600], 60, GREEDY)
    assert (first.num_reused, second.num_reused, second.num_waiting) == (0, 30, 1)
    del first
    third = model.new_text([*PROMPT, 601], 60, GREEDY)
    assert third.num_reused == len(PROMPT)
    for text, prompt in ((second, [*PROMPT[:30], 600]), (third, [*PROMPT, 601])):
        assert read(model, text) == alone(plain, prompt, 1).token_ids[0].tolist()


def test_only_allowed_tokens_are_chosen(model, plain):
    """Against NumPy: the best allowed logit, alone and beside others, for masks of one token to nearly all."""
    random = np.random.default_rng(5)
    for options in (GREEDY, SamplingOptions(repetition_penalty=1.3)):
        text, prompt = model.new_text(PROMPT, 110, options), list(PROMPT)
        other = model.new_text(PROMPT[:5], 110, SamplingOptions(temperature=1.0))
        for step in range(24):
            token_ids = random.choice(704, (1, 3, 40, 690)[step % 4], replace=False).tolist()
            logits = plain.logits(prompt)[-1]
            if options is not GREEDY:
                seen = list(set(prompt))
                logits[seen] = np.where(
                    logits[seen] > 0, logits[seen] / np.float32(1.3), logits[seen] * np.float32(1.3)
                )
            wanted = max(sorted(token_ids), key=lambda token_id: logits[token_id])
            shares = [Share(text, 99, allowed=mask(*token_ids))]
            if step % 3:
                shares.append(Share(other, 99, np.array([0.5], np.float32), mask(*token_ids)))
            chosen = model.run_pass(shares)
            assert chosen[0].token_ids == [wanted]
            assert all(new.token_ids[0] in token_ids for new in chosen)
            prompt.append(wanted)


def test_appended_tokens_are_computed_with_the_next_pass(model, plain):
    """They are part of the answer: what the frequency penalty counts says so."""
    options = SamplingOptions(frequency_penalty=2.0)
    text = model.new_text(PROMPT, 80, options)
    first = read(model, text)
    forced = [600, 601, 602] * 3
    text.append(forced)
    assert text.num_waiting == 10
    [chosen] = model.run_pass([Share(text, 99)])
    logits = plain.logits([*PROMPT, *first, *forced])[-1]
    for token_id in (*first, *forced):
        logits[token_id] -= 2
    assert chosen.token_ids == [int(logits.argmax())]


def test_an_ended_text_gives_its_memory_back(model):
    for _ in range(200):
        text = model.new_text([5, 6, 7], 100, GREEDY)
        model.run_pass([Share(text, 2)])
        del text
    assert model.kept_bytes == 0  # too short to be kept for others


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        pytest.param(
            lambda model, text: model.new_text([], 9, GREEDY),
            UsageError,
            "token_ids: the text is empty, expected at least one token",
            id="empty",
        ),
        pytest.param(
            lambda model, text: model.new_text([704], 9, GREEDY),
            UsageError,
            "token_ids: 704 is not a token id, expected 0 to 703",
            id="no-token",
        ),
        pytest.param(
            lambda model, text: model.new_text([5], 121, GREEDY),
            ContextLengthError,
            "121 tokens were asked for, but the model's context is 120 tokens",
            id="beyond-the-context",
        ),
        pytest.param(
            lambda model, text: model.new_text([5] * 10, 9, GREEDY),
            ContextLengthError,
            "a sequence of 10 tokens does not fit the cache of 9",
            id="beyond-its-room",
        ),
        pytest.param(
            lambda model, text: text.append([5] * 60),
            ContextLengthError,
            "a sequence of 62 tokens does not fit the cache of 60",
            id="appended-beyond-its-room",
        ),
        pytest.param(
            lambda model, text: model.run_pass([Share(text, 1)], 0),
            UsageError,
            "num_steps is 0, expected at least 1",
            id="no-steps",
        ),
        pytest.param(
            lambda model, text: model.run_pass([Share(text, 1)], 2),
            UsageError,
            "num_steps is 2, expected 1 where a text has tokens waiting or a mask",
            id="burst-over-a-prompt",
        ),
        pytest.param(
            lambda model, text: model.run_pass([Share(text, 0)]),
            UsageError,
            "max_tokens is 0, expected at least 1",
            id="no-tokens",
        ),
        pytest.param(
            lambda model, text: model.run_pass([Share(model.new_text([5], 9, SamplingOptions(temperature=1)), 1)]),
            UsageError,
            "uniforms: 0 numbers, expected 1",
            id="no-draws",
        ),
        pytest.param(
            lambda model, text: model.run_pass([Share(text, 9, allowed=mask())]),
            UsageError,
            r"\[engine.sampler\] allowed: forbids every token, expected one or more",
            id="nothing-allowed",
        ),
        pytest.param(
            lambda model, text: model.run_pass([Share(text, 9, allowed=mask(5)[:4])]),
            UsageError,
            "allowed: has 4 words, expected 22, one for each 32 of 704 tokens",
            id="short-mask",
        ),
        pytest.param(
            lambda model, text: model.run_pass([Share(text, 1), Share(text, 1)]),
            UsageError,
            "a sequence stands twice in one pass",
            id="twice",
        ),
    ],
)
def test_wrong_use_is_named_and_changes_nothing(model, plain, call, error, message):
    text = model.new_text([5, 6], 60, GREEDY)
    with pytest.raises(error, match=message):
        call(model, text)
    assert text.num_waiting == 2
    assert read(model, text) == alone(plain, [5, 6], 1).token_ids[0].tolist()


def test_texts_of_two_engines_do_not_mix(model, plain):
    shares = [Share(each.new_text([5], 9, GREEDY), 1) for each in (model, plain)]
    with pytest.raises(UsageError, match="shares: texts of two engines, expected one"):
        model.run_pass(shares)


def test_no_texts_no_tokens(model):
    assert model.run_pass([]) == []


def test_texts_of_a_closed_model_say_so(model):
    text = model.new_text([5, 6], 60, GREEDY)
    model.close()
    for call in (lambda: model.run_pass([Share(text, 1)]), lambda: model.new_text([5], 9, GREEDY)):
        with pytest.raises(BackendError, match="model: it was closed"):
            call()
    with pytest.raises(BackendError, match="model: it was closed"):
        text.append([5])


def test_threads_share_a_model_and_one_may_close_it(model, plain):
    """Each thread's answers are its own; when the model is closed, the others are told, and nothing worse."""
    wanted = {length: alone(plain, PROMPT[:length], 20).token_ids[0].tolist() for length in (5, 9, 30)}

    def answer(length):
        text = model.new_text(PROMPT[:length], 60, GREEDY)
        found = read(model, text)
        while len(found) < 20:
            found += model.run_pass([Share(text, 1)])[0].token_ids
        return found

    def answer_until_closed(length):
        count = 0
        with contextlib.suppress(BackendError):
            while answer(length) == wanted[length]:
                count += 1
                is_running[length].set()
            return None
        return count

    is_running = {length: threading.Event() for length in wanted}
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert list(pool.map(answer, wanted)) == list(wanted.values())
        counts = [pool.submit(answer_until_closed, length) for length in wanted]
        assert all(event.wait(20) for event in is_running.values())
        model.close()
        assert all(count.result(20) for count in counts)
