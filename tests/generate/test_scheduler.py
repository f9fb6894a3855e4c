"""What runs together, in which order, in how long bursts, and what the clock counts."""

from __future__ import annotations

import collections
import math

import numpy as np
import pytest

from gemcut.errors import BackendError, ContextLengthError, QueueFullError, UsageError
from gemcut.generate.scheduler import common_prefix
from gemcut.interfaces import Timings


def of_kind(lm, kind):
    return [call[1:] for call in lm.engine_model.calls if call[0] == kind]


def prompts(*lengths):
    return [[2] + [400] * (length - 1) for length in lengths]


def test_sequences_of_similar_length_share_a_batch(scripted, saying):
    lm = scripted(saying("x"))
    lm.generate(prompts(1, 20, 2, 19, 3, 18, 4, 17, 5, 16), max_tokens=2)
    assert of_kind(lm, "prefill") == [([1, 2, 3, 4, 5, 16, 17, 18],), ([19, 20],)]
    assert of_kind(lm, "new_cache") == [(8, 20), (2, 22)]


def test_batches_are_cut_so_that_each_fits_the_context(scripted, saying):
    """A finished row grows with its batch until the last one is finished."""
    lm = scripted(saying([400] * 99), context=60)
    answers = lm.generate(prompts(3, 50, 10, 58, 57), max_tokens=40)
    assert [answer.usage["completion_tokens"] for answer in answers] == [40, 10, 40, 2, 3]
    assert [lengths for (lengths,) in of_kind(lm, "prefill")] == [[3, 10], [50], [57], [58]]
    assert of_kind(lm, "new_cache") == [(2, 50), (1, 60), (1, 60), (1, 60)]


@pytest.mark.parametrize(
    ("stop", "bursts"),
    [pytest.param((), [1, 2, 4, 8, 16, 32, 7], id="plain"), pytest.param("zz", [1, 2, 4] + [8] * 7 + [7], id="stop")],
)
def test_bursts_grow_and_stay_short_where_a_stop_string_may_end_the_text(scripted, saying, stop, bursts):
    lm = scripted(saying([400] * 99), context=100)
    lm.generate([2], max_tokens=70, stop=stop)
    assert [steps for steps, _ in of_kind(lm, "decode")] == bursts


def test_a_watched_stream_comes_in_short_bursts(scripted, saying):
    lm = scripted(saying([400] * 99), context=100)
    pieces = list(lm.stream([2], max_tokens=30))
    assert [steps for steps, _ in of_kind(lm, "decode")] == [1, 2, 4, 8, 8, 7]
    assert [len(piece.token_ids) for piece in pieces] == [1, 2, 4, 8, 8, 7]


def test_generation_ends_with_the_last_sequence(scripted):
    """One row ends at its third token, the other at its sixth; no further burst is asked for."""
    ends = {10: 3, 11: 6}
    lm = scripted(lambda prompt, index: 1 if index == ends[prompt[-1]] - 1 else 400)
    first, second = lm.generate([[2, 10], [2, 11]], max_tokens=50)
    assert (first.token_ids, second.token_ids) == ([400] * 2, [400] * 5)
    assert (first.usage["completion_tokens"], second.usage["completion_tokens"]) == (3, 6)
    assert [steps for steps, _ in of_kind(lm, "decode")] == [1, 2, 4]


def test_stop_ids_reach_the_engine(scripted, saying):
    lm = scripted(saying("x"), generation_config={"eos_token_id": [1, 99]})
    lm.generate("a", max_tokens=4)
    assert of_kind(lm, "decode")[0] == (1, (1, 15, 99))  # <eos>, <end_of_turn>, and the model's own


def test_nothing_to_do(scripted, saying):
    lm = scripted(saying("x"))
    assert lm.generate([]) == []
    assert lm.engine_model.calls == []


@pytest.mark.parametrize(
    ("compiled", "prefilled", "decoded"),
    [
        pytest.param([], 2, 7, id="nothing-compiled"),
        pytest.param([0, 1], 0, 7, id="prefill-compiled"),
        pytest.param([0, 0, 0, 1], 2, 6, id="first-token-compiled"),
    ],
)
def test_clock_leaves_calls_that_compiled_out_of_the_speed(scripted, saying, compiled, prefilled, decoded):
    """The engine is asked before and after each call how many programs it has compiled."""
    lm = scripted(saying([400] * 9))
    lm.engine_model.compiled = list(compiled)
    timings = lm.generate([2, 10], max_tokens=7).timings
    assert (timings.prefill_tokens, timings.decode_tokens) == (prefilled, decoded)
    assert (timings.compile_seconds > 0) == bool(compiled)
    assert timings.decode_seconds > 0


def test_timings_are_shared_and_do_not_count_in_comparisons(scripted, saying):
    lm = scripted(saying("one two"))
    first, second = lm.generate(["a", "b"], max_tokens=4)
    assert first.timings is second.timings
    assert isinstance(first.timings, Timings)
    assert first.timings.prefill_tokens == 4
    assert lm.generate("a", max_tokens=4) == first


def test_tokens_that_were_known_already_do_not_count_as_prefilled(scripted, saying):
    lm = scripted(saying("one two"))
    lm.engine_model.reused = [3]
    assert lm.generate([2, 10, 11, 12, 13], max_tokens=2).timings.prefill_tokens == 2


def begins(*lengths, first=500):
    """Prompts of unequal lengths that share nothing; the last token names each."""
    return [[first + index] * length for index, length in enumerate(lengths)]


def added(lm, scheduler, prompts, **options):
    sequences = [lm.new_sequence(prompt, **options) for prompt in prompts]
    for sequence in sequences:
        scheduler.add(sequence)
    return sequences


def finish(scheduler):
    """Steps until nothing is left; returns the updates of each sequence."""
    updates = collections.defaultdict(list)
    while scheduler.has_work:
        for update in scheduler.step():
            updates[update.sequence].append(update)
    return updates


class TestContinuous:
    def test_a_long_prompt_does_not_hold_up_the_answers(self, continuous, saying):
        """Every pass of the long prompt brings every running text a token, and takes no more than its room."""
        lm = continuous(saying([400] * 99))
        scheduler = lm.new_scheduler()
        short = added(lm, scheduler, begins(5, 6), max_tokens=40)
        scheduler.step()
        [long] = added(lm, scheduler, begins(1500, first=600), max_tokens=5)
        while not long.num_generated:
            before = [sequence.num_generated for sequence in short]
            scheduler.step()
            assert [sequence.num_generated for sequence in short] == [count + 1 for count in before]
        counts = [passes for passes, _ in lm.engine_model.passes if 600 in passes]
        assert [passes[600] for passes in counts] == [254] * 5 + [230]
        assert all(passes[500] == passes[501] == 1 for passes in counts)

    def test_short_prompts_overtake_a_long_one_which_gets_half(self, continuous, saying):
        lm = continuous(saying([400] * 99))
        scheduler = lm.new_scheduler()
        long, *short = added(lm, scheduler, begins(1800, 100, 90, 80), max_tokens=2)
        finish(scheduler)
        counts = [passes for passes, _ in lm.engine_model.passes]
        assert counts[0] == {500: 128, 503: 80, 502: 48}
        assert counts[1] == {500: 127, 503: 1, 502: 42, 501: 86}
        assert [sequence.finish_reason for sequence in [long, *short]] == ["length"] * 4

    def test_prompts_of_one_length_come_one_after_the_other(self, continuous, saying):
        """Sharing a pass evenly would make all of them late."""
        lm = continuous(saying([400] * 99))
        scheduler = lm.new_scheduler()
        order = []
        added(lm, scheduler, begins(300, 300, 300), max_tokens=1)
        while scheduler.has_work:
            order += [update.sequence.prompt_ids[0] for update in scheduler.step()]
        assert order == [500, 501, 502]

    def test_a_prompt_waits_for_another_that_computes_its_beginning(self, continuous, saying):
        lm = continuous(saying([400] * 9))
        lm.engine_model.prefix_cache_bytes = 1
        system = list(range(100, 400))
        prompts = [[*system, 500], [*system, 501], [*system[:50], 502], [503] * 9, system[:15]]
        scheduler = lm.new_scheduler()
        sequences = added(lm, scheduler, prompts, max_tokens=2)
        scheduler.step()
        assert (scheduler.num_running, scheduler.num_waiting) == (3, 2)
        finish(scheduler)
        assert [sequence.num_reused for sequence in sequences] == [0, 300, 50, 0, 0]
        assert scheduler.counters.reused_tokens == 350
        assert scheduler.counters.prompt_tokens == sum(map(len, prompts)) - 350

    def test_samples_of_one_prompt_compute_it_once(self, continuous, saying):
        lm = continuous(saying([400] * 9))
        lm.engine_model.prefix_cache_bytes = 1
        lm.generate(list(range(100, 400)), n=8, max_tokens=3)
        computed = [sum(passes.values()) for passes, _ in lm.engine_model.passes]
        assert computed == [256, 44, 8, 8, 7]

    def test_nobody_waits_where_nothing_is_reused(self, continuous, saying):
        lm = continuous(saying([400] * 9))
        scheduler = lm.new_scheduler()
        added(lm, scheduler, [list(range(100, 400))] * 2, max_tokens=2)
        scheduler.step()
        assert scheduler.num_running == 2

    def test_bursts_are_long_only_where_no_prompt_waits(self, continuous, saying):
        lm = continuous(saying([400] * 200))
        scheduler = lm.new_scheduler()
        added(lm, scheduler, begins(5), max_tokens=60)
        for _ in range(5):
            scheduler.step(32, math.inf)
        added(lm, scheduler, begins(300, first=600), max_tokens=40)
        for _ in range(5):
            scheduler.step(32, math.inf)
        assert [steps for _, steps in lm.engine_model.passes] == [1, 2, 4, 8, 16, 1, 1, 2, 4, 8]

    def test_a_burst_ends_with_the_first_text(self, continuous):
        lm = continuous(lambda prompt, index: 1 if (prompt[-1], index) == (500, 9) else 400)
        scheduler = lm.new_scheduler()
        first, second = added(lm, scheduler, begins(5, 5), max_tokens=40)
        while not first.finish_reason:
            scheduler.step(32, math.inf)
        assert (first.num_generated, second.num_generated) == (10, 10)
        assert (scheduler.num_running, first.finish_reason, first.stopped_by) == (1, "stop", 1)

    def test_timings_are_each_texts_own(self, continuous, saying):
        lm = continuous(saying([400] * 99))
        first, second = lm.generate(begins(300, 9), max_tokens=4)
        assert (first.timings.prefill_tokens, second.timings.prefill_tokens) == (300, 9)
        assert (first.timings.decode_tokens, second.timings.decode_tokens) == (3, 3)
        assert first.timings.decode_seconds > 0

    def test_many_texts_join_as_others_leave(self, continuous):
        lm = continuous(lambda prompt, index: 1 if index == prompt[-1] - 500 else 400)
        answers = lm.generate(begins(*range(3, 23)), max_tokens=30)
        assert [len(answer.token_ids) for answer in answers] == list(range(20))
        assert max(len(passes) for passes, _ in lm.engine_model.passes) == 8


class TestQueue:
    @pytest.fixture
    def lm(self, continuous, saying):
        return continuous(saying([400] * 99))

    def test_it_is_bounded(self, lm):
        scheduler = lm.new_scheduler(max_running=2, max_waiting=1)
        added(lm, scheduler, begins(5, 5, 5), max_tokens=2)
        for _ in range(2):
            with pytest.raises(
                QueueFullError, match=r"queue: \d texts run and \d wait, expected at most 2 and 1. Ask again"
            ) as caught:
                scheduler.add(lm.new_sequence([2]))
            scheduler.step()
        assert caught.value.http_status == 429
        finish(scheduler)
        added(lm, scheduler, begins(5, 5, 5), max_tokens=2)

    def test_no_queue_still_takes_what_can_run_at_once(self, lm):
        scheduler = lm.new_scheduler(max_running=2, max_waiting=0)
        added(lm, scheduler, begins(5, 5), max_tokens=2)
        with pytest.raises(QueueFullError):
            scheduler.add(lm.new_sequence([2]))

    def test_one_request_for_many_does_not_keep_the_others_out(self, lm):
        """The next free place is another request's; and of that client's, another client's."""
        scheduler = lm.new_scheduler(max_running=2)
        many = [lm.new_sequence([500], max_tokens=3) for _ in range(9)]
        for sequence in many:
            scheduler.add(sequence, client="a", request=1)
        scheduler.step()
        later = [lm.new_sequence([501 + index], max_tokens=3) for index in range(3)]
        for sequence, client, request in zip(later, "aab", (2, 3, 1), strict=True):
            scheduler.add(sequence, client=client, request=request)
        order = []
        while scheduler.has_work:
            order += [update.sequence.prompt_ids[0] for update in scheduler.step() if update.finished]
        assert order == [500, 500, 503, 501, 502, *[500] * 7]

    def test_a_text_that_waits_for_memory_is_not_overtaken_for_ever(self, lm):
        scheduler = lm.new_scheduler(max_running=4, cache_bytes=1000)
        scheduler.add(lm.new_sequence([500] * 40, max_tokens=9), client="small")
        scheduler.step()
        scheduler.add(large := lm.new_sequence([501] * 90, max_tokens=9), client="large")
        for number in range(40):
            scheduler.add(lm.new_sequence([502] * 40, max_tokens=9), client=f"new{number}")
            scheduler.step()
        assert large.finish_reason == "length"
        finish(scheduler)

    def test_only_what_fits_the_memory_runs(self, lm):
        """The engine takes 10 bytes a token."""
        scheduler = lm.new_scheduler(cache_bytes=1000)
        added(lm, scheduler, begins(40, 40, 40), max_tokens=9)
        scheduler.step()
        assert (scheduler.num_running, scheduler.num_waiting, scheduler.cache.used) == (2, 1, 980)
        finish(scheduler)
        assert (scheduler.cache.used, scheduler.counters.finished) == (0, {"length": 3})

    def test_what_never_fits_is_refused(self, lm):
        scheduler = lm.new_scheduler(cache_bytes=1000)
        message = "prompt: with its answer it may have 101 tokens, which take 1010 bytes of memory, but all"
        with pytest.raises(ContextLengthError, match=message):
            scheduler.add(lm.new_sequence([2] * 91, max_tokens=10))
        assert not scheduler.has_work

    def test_abort_is_effective_at_the_next_step(self, lm):
        scheduler = lm.new_scheduler(max_running=1)
        first, second, third = added(lm, scheduler, begins(5, 5, 5), max_tokens=9)
        scheduler.step()
        scheduler.abort(first)
        scheduler.abort(second)
        updates = {update.sequence: update for update in scheduler.step()}
        assert [sequence.finish_reason for sequence in (first, second, third)] == ["cancelled", "cancelled", None]
        assert (updates[first].finished, updates[first].token_ids, first.text) == (True, [], lm.tokenizer.decode([400]))
        assert (updates[second].text, third.num_generated, scheduler.num_running) == ("", 1, 1)
        assert first.completion().finish_reason == "cancelled"
        scheduler.abort(first)  # it has ended
        finish(scheduler)
        assert scheduler.counters.finished == {"cancelled": 2, "length": 1}

    def test_deadlines_end_what_runs_and_what_waits(self, lm, monkeypatch):
        now = 100.0
        monkeypatch.setattr("time.monotonic", lambda: now)
        scheduler = lm.new_scheduler(max_running=1)
        sequences = [lm.new_sequence([500], max_tokens=9, deadline=at) for at in (105.0, 103.0, None)]
        for sequence in sequences:
            scheduler.add(sequence)
        scheduler.step()
        now = 103.0
        scheduler.step()
        assert [sequence.finish_reason for sequence in sequences] == [None, "timeout", None]
        now = 106.0
        finish(scheduler)
        assert [sequence.finish_reason for sequence in sequences] == ["timeout", "timeout", "length"]

    def test_updates_add_up(self, lm):
        scheduler = lm.new_scheduler(max_running=2)
        sequences = added(lm, scheduler, begins(5, 3, 4), max_tokens=7)
        for sequence, updates in finish(scheduler).items():
            assert "".join(update.text for update in updates) == sequence.text
            assert [token_id for update in updates for token_id in update.token_ids] == sequence.token_ids
            assert [update.finished for update in updates] == [False] * (len(updates) - 1) + [True]
            assert updates[0].logprobs is None
        assert scheduler.counters.generated_tokens == 7 * len(sequences)

    def test_a_thousand_texts_come_and_go(self, lm):
        """Seeded arrivals and departures; nothing is left behind."""
        random = np.random.default_rng(0)
        scheduler = lm.new_scheduler(max_running=4, cache_bytes=4000)
        open_sequences = []
        for _ in range(1000):
            sequence = lm.new_sequence([500 + int(random.integers(50))] * int(random.integers(1, 90)), max_tokens=20)
            scheduler.add(sequence)
            open_sequences.append(sequence)
            if random.random() < 0.5:
                scheduler.abort(open_sequences.pop(int(random.integers(len(open_sequences)))))
            scheduler.step()
        finish(scheduler)
        assert (scheduler.num_running, scheduler.num_waiting, scheduler.cache.used) == (0, 0, 0)
        assert sum(scheduler.counters.finished.values()) == 1000
        assert scheduler.counters.finished["cancelled"] > 300
        left = [value for value in vars(scheduler).values() if isinstance(value, (dict, set)) and value]
        assert not left
        assert not any(vars(scheduler._queue)[name] for name in ("_waiting", "_running", "_parties"))
        assert not scheduler._runner._texts
        assert not scheduler._runner._answering


class TestFailures:
    def test_a_pass_that_fails_ends_its_texts_and_nothing_else(self, continuous, saying):
        lm = continuous(saying([400] * 9))
        scheduler = lm.new_scheduler(max_running=2)
        first, second, third = added(lm, scheduler, begins(5, 5, 5), max_tokens=4)
        scheduler.step()
        lm.engine_model.failures["pass"] = [BackendError("the cache is on fire")]
        updates = scheduler.step()
        assert [update.finished for update in updates] == [True, True]
        assert [sequence.finish_reason for sequence in (first, second, third)] == ["error", "error", None]
        assert str(first.error) == "the cache is on fire"
        finish(scheduler)
        assert (third.finish_reason, third.num_generated) == ("length", 4)

    def test_a_text_that_cannot_begin_ends_alone(self, continuous, saying):
        lm = continuous(saying([400] * 9))
        scheduler = lm.new_scheduler()
        first, second = added(lm, scheduler, begins(5, 5), max_tokens=4)
        lm.engine_model.failures["begin"] = [UsageError("no")]
        finish(scheduler)
        assert (first.finish_reason, str(first.error), second.finish_reason) == ("error", "no", "length")

    def test_memory_that_lacks_is_waited_for(self, continuous, saying):
        lm = continuous(saying([400] * 9))
        scheduler = lm.new_scheduler()
        added(lm, scheduler, begins(5), max_tokens=4)
        scheduler.step()
        [late] = added(lm, scheduler, begins(5), max_tokens=4)
        lm.engine_model.failures["begin"] = [BackendError("no memory")] * 2
        scheduler.step()
        scheduler.step()
        assert (scheduler.num_waiting, late.finish_reason) == (1, None)
        finish(scheduler)
        assert late.finish_reason == "length"
        [alone] = added(lm, scheduler, begins(5), max_tokens=4)
        lm.engine_model.failures["begin"] = [BackendError("no memory")]
        finish(scheduler)
        assert alone.finish_reason == "error"

    @pytest.mark.parametrize("kind", ["scripted", "continuous"])
    def test_whoever_waits_for_the_result_gets_the_error(self, request, kind, saying, monkeypatch):
        lm = request.getfixturevalue(kind)(saying([400] * 9))

        def fail(*args, **options):
            raise BackendError("the cache is on fire")

        monkeypatch.setattr(lm.engine_model, "run_pass" if kind == "continuous" else "decode", fail)
        with pytest.raises(BackendError, match="on fire"):
            lm.generate("a")
        with pytest.raises(BackendError, match="on fire"):
            list(lm.stream("a"))

    def test_an_interrupted_run_lets_the_interrupt_through(self, continuous, saying):
        lm = continuous(saying([400] * 9))
        lm.engine_model.failures["pass"] = [KeyboardInterrupt()]
        with pytest.raises(KeyboardInterrupt):
            lm.generate("a")
        assert lm.generate("a", max_tokens=2).token_ids == [400] * 2


class TestGroups:
    """Engines that are not continuous: who begins together ends together."""

    def test_who_comes_later_waits_for_the_group(self, scripted, saying):
        lm = scripted(saying([400] * 9))
        scheduler = lm.new_scheduler(max_running=2)
        added(lm, scheduler, begins(5, 6, 7), max_tokens=4)
        finish(scheduler)
        assert of_kind(lm, "prefill") == [([5, 6],), ([7],)]

    def test_a_row_that_is_aborted_leaves_its_group(self, scripted, saying):
        lm = scripted(saying([400] * 99))
        scheduler = lm.new_scheduler()
        first, second = added(lm, scheduler, begins(5, 6), max_tokens=20)
        scheduler.step()
        scheduler.abort(first)
        finish(scheduler)
        assert (first.finish_reason, first.num_generated) == ("cancelled", 1)
        assert (second.finish_reason, second.num_generated) == ("length", 20)
        [third] = added(lm, scheduler, begins(5), max_tokens=2)
        finish(scheduler)
        assert third.finish_reason == "length"

    def test_a_row_that_is_aborted_at_once_is_not_computed(self, scripted, saying):
        lm = scripted(saying([400] * 99))
        scheduler = lm.new_scheduler()
        first, _ = added(lm, scheduler, begins(5, 6), max_tokens=2)
        scheduler.abort(first)
        finish(scheduler)
        assert of_kind(lm, "prefill") == [([6],)]

    def test_memory_is_reckoned(self, scripted, saying):
        """2 * 4 bytes for each of 8 numbers in each of 10 tokens."""
        lm = scripted(saying("x"))
        scheduler = lm.new_scheduler(cache_bytes=100)
        with pytest.raises(ContextLengthError, match="which take 640 bytes of memory, but all texts together"):
            scheduler.add(lm.new_sequence([2] * 5, max_tokens=5))


@pytest.mark.parametrize(
    ("one", "other", "length"),
    [
        pytest.param([], [1], 0, id="empty"),
        pytest.param([1, 2, 3], [1, 2, 3, 4], 3, id="all"),
        pytest.param([1, 2, 3, 9], [1, 2, 3, 4], 3, id="but-the-last"),
        pytest.param([7, 2], [1, 2], 0, id="none"),
        pytest.param([*range(1000), 5, *range(9)], [*range(1000), 6, *range(9)], 1000, id="long"),
    ],
)
def test_common_prefix(one, other, length):
    assert common_prefix(one, other) == common_prefix(other, one) == length
