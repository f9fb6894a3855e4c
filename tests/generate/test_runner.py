"""A small real model behind the scheduler: the answers of one by one, and constraints to the token, on every engine."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import gemcut
from gemcut.errors import ContextLengthError, UsageError
from gemcut.generate.runner import BatchRunner, ContinuousRunner, runner_for

PROMPTS = ["a", "the great river sees every small house and", "the planet", "a model of the old garden is"]


class Pattern:
    """A constraint that is a list: at each place the ids that may come, or one that must.

    After the last place, or where a place has the id `END`, the text may end.
    """

    END = 1

    def __init__(self, places, vocab_size=700):
        self.places, self.vocab_size, self.at = places, vocab_size, 0

    def allowed(self):
        token_ids = self.places[self.at] if self.at < len(self.places) else [self.END]
        bits = np.zeros(-(-self.vocab_size // 32) * 32, np.bool_)
        bits[token_ids] = True
        return np.packbits(bits, bitorder="little").view(np.uint32)

    def forced(self):
        return [place[0] for place in itertools.takewhile(lambda place: len(place) == 1, self.places[self.at :])]

    def push(self, token_ids):
        for token_id in token_ids:
            if self.is_finished or token_id not in self.places[self.at]:
                raise UsageError(f"token {token_id} is not allowed")
            self.at += 1

    @property
    def is_finished(self):
        return self.at == len(self.places)


@pytest.fixture(scope="module")
def lm(write_tiny_model, tmp_path_factory, engine):
    """The tiny model; on PyTorch eager, as its compiled form has tests of its own."""
    folder = write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")
    with pytest.MonkeyPatch.context() as patch:
        if engine == "torch":
            patch.setattr("gemcut.model.runner_torch.can_compile", lambda: False)
        lm = gemcut.load(folder, engine=engine, dtype="float32")
    yield lm
    lm.close()


backend = pytest.mark.backend


@backend
def test_each_engine_has_its_runner(lm, engine):
    assert type(runner_for(lm.engine_model)) is (ContinuousRunner if engine == "native" else BatchRunner)


@backend
def test_texts_that_come_and_go_at_random_say_what_they_say_alone(lm, engine):
    """Seeded arrivals, departures, options and bursts; every text equals its own, or the beginning of it."""
    random, is_continuous = np.random.default_rng(1), engine == "native"
    system = random.integers(3, 690, 40).tolist()
    scheduler, open_sequences, checked = lm.new_scheduler(max_running=4 if is_continuous else 1), [], 0
    for _ in range(60 if is_continuous else 8):
        own = random.integers(3, 690, int(random.integers(1, 30))).tolist()
        prompt = own if random.random() < 0.5 else [*system, *own]
        options = {"max_tokens": int(random.integers(1, 20)), "seed": int(random.integers(100)), "temperature": 1.3}
        if is_continuous and random.random() < 0.5:
            options["temperature"] = 0.0
        sequence = lm.new_sequence(prompt, **options)
        scheduler.add(sequence)
        open_sequences.append((sequence, prompt, options))
        if random.random() < 0.2:
            scheduler.abort(open_sequences[int(random.integers(len(open_sequences)))][0])
        for _ in range(int(random.integers(4))):
            scheduler.step(int(random.integers(1, 9)))
    while scheduler.has_work:
        scheduler.step()
    assert (scheduler.num_running, scheduler.num_waiting) == (0, 0)
    for sequence, prompt, options in open_sequences:
        wanted = lm.generate(prompt, **options)
        if sequence.finish_reason == "cancelled":
            assert wanted.token_ids[: len(sequence.token_ids)] == sequence.token_ids
        else:
            assert (sequence.token_ids, sequence.text, sequence.finish_reason) == (
                wanted.token_ids,
                wanted.text,
                wanted.finish_reason,
            )
            checked += 1
    assert checked >= len(open_sequences) / 2


@backend
@pytest.mark.parametrize("logprobs", [None, 0], ids=["skipping", "with-logprobs"])
def test_masks_and_forced_tokens_to_the_token(lm, logprobs):
    """Against NumPy on the logits of the whole text; other texts of all kinds run beside it."""
    random = np.random.default_rng(2)
    sizes = [1, 1, 3, 1, 40, 690, 1, 1, 1, 2, 697, 5, 1]
    places = [sorted(random.choice(np.arange(3, 700), size, replace=False).tolist()) for size in sizes]
    for prompt in PROMPTS[:2]:
        prompt_ids = lm.tokenizer.encode(prompt)
        sequence = lm.new_sequence(prompt_ids, max_tokens=40, constraint=Pattern(places), logprobs=logprobs)
        others = [lm.new_sequence(lm.tokenizer.encode(text), max_tokens=9) for text in PROMPTS[2:]]
        lm.new_scheduler().run([sequence, *others])
        wanted = list(prompt_ids)
        for place in places:
            logits = lm.logits(wanted)[-1]
            wanted.append(max(place, key=lambda token_id: logits[token_id]))
        assert sequence.token_ids == wanted[len(prompt_ids) :]
        assert (sequence.finish_reason, sequence.num_generated) == ("stop", len(places))
        assert (sequence.logprobs is None) == (logprobs is None)
        assert logprobs is None or len(sequence.logprobs) == len(places)
        for other, text in zip(others, PROMPTS[2:], strict=True):
            assert other.token_ids == lm.generate(text, max_tokens=9).token_ids


@backend
def test_draws_under_a_constraint_follow_the_seed_with_and_without_log_probabilities(lm):
    """A token that must follow has a draw, too, which nobody uses."""
    places = [[500], [501], list(range(3, 700)), [502], *[list(range(3, 700))] * 6]
    texts = []
    for logprobs in (None, 0):
        options = {"temperature": 1.5, "seed": 7, "logprobs": logprobs}
        sequence = lm.new_sequence([2, 5], max_tokens=20, constraint=Pattern(places), **options)
        lm.new_scheduler().run([sequence])
        texts.append(sequence.token_ids)
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 4


@pytest.fixture(params=["scripted", "continuous"])
def model_saying(request, saying):
    """A model that says a text, on a scripted engine of each kind."""
    make = request.getfixturevalue(request.param)
    return lambda answer: make(saying(answer))


@pytest.mark.parametrize(
    ("places", "limit", "reason", "count"),
    [
        pytest.param([[500]] * 9, 5, "length", 5, id="cut-off"),
        pytest.param([[500]] * 5, 5, "stop", 5, id="just-fits"),
        pytest.param([[500, 501], [502]], 5, "stop", 2, id="last-one-forced"),
        pytest.param([[500, 501], [502, 1], [503]], 5, "stop", 2, id="by-a-stop-id"),
    ],
)
def test_a_constrained_text_ends_where_its_tokens_do(model_saying, places, limit, reason, count):
    lm = model_saying([500, 1])
    sequence = lm.new_sequence([2, 5], max_tokens=limit, constraint=Pattern(places))
    lm.new_scheduler().run([sequence])
    assert (sequence.finish_reason, sequence.num_generated) == (reason, count)


def test_a_text_that_may_say_nothing_says_nothing(model_saying):
    lm = model_saying([500])
    sequence = lm.new_sequence([2, 5], constraint=Pattern([]))
    lm.new_scheduler().run([sequence])
    assert (sequence.finish_reason, sequence.text, sequence.token_ids) == ("stop", "", [])


@pytest.mark.parametrize("where", ["allowed", "forced", "push"])
def test_a_constraint_that_fails_ends_its_text_alone(model_saying, where):
    lm = model_saying([500] * 9)
    broken = Pattern([list(range(3, 700))] * 9)
    whole = getattr(broken, where)

    def fail(*args):
        if broken.at == 2:
            raise UsageError("grammar: it is too complex")
        return whole(*args)

    setattr(broken, where, fail)
    other = Pattern([list(range(3, 700))] * 9)
    first, second = (lm.new_sequence([2, 5], max_tokens=20, constraint=each) for each in (broken, other))
    with pytest.raises(UsageError, match="it is too complex"):
        lm.new_scheduler().run([first, second])
    assert (first.finish_reason, first.token_ids[:2], first.text[:2]) == ("error", [500] * 2, second.text[:2])
    assert (second.finish_reason, second.num_generated) == ("stop", 9)


def test_min_tokens_puts_the_end_off(model_saying):
    lm = model_saying([400, 401, 402, 1, 404, 405, 1, 407])
    counts = (0, 3, 4, 5, 12)
    sequences = [lm.new_sequence([2, 5], max_tokens=12, min_tokens=count) for count in counts]
    lm.new_scheduler().run(sequences)
    assert [(sequence.num_generated, sequence.finish_reason) for sequence in sequences] == [
        (4, "stop"),
        (4, "stop"),
        (7, "stop"),
        (7, "stop"),
        (12, "length"),
    ]
    assert not set(sequences[4].token_ids) & set(lm.stop_token_ids)


def test_min_tokens_does_not_keep_a_constraint_from_its_end(model_saying):
    lm = model_saying([500, 1])
    sequence = lm.new_sequence([2, 5], min_tokens=9, max_tokens=9, constraint=Pattern([[500, 501], [1]]))
    lm.new_scheduler().run([sequence])
    assert (sequence.token_ids, sequence.finish_reason) == ([500], "stop")


def test_stop_ids_of_the_model_can_be_ignored_and_others_given(model_saying):
    lm = model_saying([400, 1, 402, 403, 404])
    options = {"max_tokens": 5, "ignore_stop_ids": True}
    going_on, stopped = (lm.new_sequence([2, 5], stop_token_ids=ids, **options) for ids in ([], [403]))
    lm.new_scheduler().run([going_on, stopped])
    assert (going_on.token_ids, going_on.finish_reason) == ([400, 1, 402, 403, 404], "length")
    assert (stopped.token_ids, stopped.stopped_by) == ([400, 1, 402], 403)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        pytest.param(
            {"min_tokens": 9, "max_tokens": 8}, UsageError, "min_tokens is 9, expected 0 to max_tokens", id="min"
        ),
        pytest.param(
            {"stop_token_ids": [704]},
            UsageError,
            "stop_token_ids: 704 is not a token id, expected 0 to 703",
            id="stop-id",
        ),
        pytest.param(
            {"prompt_ids": [2, 704]}, UsageError, "prompt: 704 is not a token id, expected 0 to 703", id="prompt"
        ),
        pytest.param({"prompt_ids": [2] * 60}, ContextLengthError, "prompt: it has 60 tokens", id="context"),
    ],
)
def test_wrong_use_is_named(scripted, saying, arguments, error, message):
    with pytest.raises(error, match=message):
        scripted(saying("x")).new_sequence(**({"prompt_ids": [2]} | arguments))
