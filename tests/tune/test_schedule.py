"""The learning rate of each step."""

import pytest

from gemcut.tune.schedule import LearningRate, warmup_steps


def rates(**changes):
    schedule = LearningRate(**{"highest": 1.0, "num_steps": 10, "num_warmup_steps": 2} | changes)
    return [schedule.at(step) for step in range(schedule.num_steps)]


def test_warm_up_is_linear_and_begins_above_zero():
    assert rates(shape="constant") == [0.5] + [1.0] * 9


def test_linear_reaches_the_final_share_after_the_last_step():
    assert rates(shape="linear", final_share=0.2) == pytest.approx([0.5, 1.0, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])


def test_cosine_is_half_way_down_in_the_middle():
    found = rates(shape="cosine", final_share=0.1)
    assert found[2] == 1.0
    assert found[6] == pytest.approx(0.55)
    assert found == sorted(found[:2]) + sorted(found[2:], reverse=True)
    assert LearningRate(1.0, 10, 2, "cosine", 0.1).at(10) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("warmup", "num_steps", "expected"), [(0, 100, 0), (0.03, 100, 3), (0.03, 10, 1), (5, 100, 5), (50, 10, 10)]
)
def test_warm_up_as_steps_or_as_a_share(warmup, num_steps, expected):
    assert warmup_steps(warmup, num_steps) == expected


def test_a_run_that_is_all_warm_up():
    assert rates(num_steps=2) == [0.5, 1.0]
