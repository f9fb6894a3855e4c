"""How much a pass may hold, from how long the last ones took."""

from __future__ import annotations

import math

import pytest

from gemcut.generate.pace import BURST_SECONDS, MIN_CHUNK, PASS_SECONDS, PASS_TOKENS, Pace


def test_before_anything_was_measured_a_pass_is_full_and_a_burst_as_long_as_asked():
    pace = Pace()
    assert (pace.prompt_tokens(0), pace.prompt_tokens(8)) == (PASS_TOKENS, PASS_TOKENS - 8)
    assert pace.num_steps(8, BURST_SECONDS) == 8


@pytest.mark.parametrize(
    ("token_seconds", "room"),
    [
        pytest.param(PASS_SECONDS / 1000, PASS_TOKENS - 8, id="fast"),
        pytest.param(PASS_SECONDS / 100.5, 100, id="as-much-as-fits-the-time"),
        pytest.param(PASS_SECONDS, MIN_CHUNK, id="slow-but-never-stuck"),
    ],
)
def test_beside_answers_a_pass_takes_what_fits_the_time(token_seconds, room):
    pace = Pace()
    pace.note(200, 1, 200 * token_seconds)
    assert pace.prompt_tokens(8) == room
    assert pace.prompt_tokens(0) == PASS_TOKENS  # nobody waits


def test_a_pass_of_few_tokens_says_nothing_about_prompts():
    pace = Pace()
    pace.note(MIN_CHUNK - 1, 1, 10.0)
    assert pace.prompt_tokens(8) == PASS_TOKENS - 8


def test_a_room_settles_where_the_pass_takes_its_time():
    """Answers cost 30 ms whatever rides with them: what is measured for a token of a prompt then falls with more."""
    pace = Pace()
    for _ in range(60):
        room = pace.prompt_tokens(8)
        pace.note(room, 1, 0.03 + room * 0.0005)
    assert 0.03 + room * 0.0005 == pytest.approx(PASS_SECONDS, rel=0.03)


@pytest.mark.parametrize(
    ("step_seconds", "steps"),
    [
        pytest.param([0.001] * 3, 8, id="fast"),
        pytest.param([BURST_SECONDS / 3.5] * 3, 3, id="as-many-as-fit"),
        pytest.param([1.0] * 3, 1, id="slow"),
        pytest.param([1.0, BURST_SECONDS / 3.5, 2.0], 3, id="held-up-by-others"),
        pytest.param([0.001, 1.0, 1.0, 1.0], 1, id="slow-by-now"),
    ],
)
def test_bursts_fit_their_time(step_seconds, steps):
    pace = Pace()
    for seconds in step_seconds:
        pace.note(0, 4, 4 * seconds)
    assert pace.num_steps(8, BURST_SECONDS) == steps
    assert pace.num_steps(8, math.inf) == 8
