"""What runs together, in how long bursts, and what the clock counts."""

from __future__ import annotations

import pytest

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
