"""Scores of single answers are those of lm-evaluation-harness 0.4.13."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from gemcut.evaluate.metrics import CHOICE_METRICS, NOTHING_FOUND, ChoiceAnswer, Extraction, TextScorer
from gemcut.evaluate.task_file import load_task


def answer(logprobs: list[float], choices: list[str], right: list[int], **row: Any) -> ChoiceAnswer:
    return ChoiceAnswer(logprobs, choices, right, row)


@pytest.mark.parametrize(
    ("metric", "logprobs", "choices", "right", "expected"),
    [
        ("acc", [-2.0, -1.0], ["a", "b"], [1], 1.0),
        ("acc", [-1.0, -1.0], ["a", "b"], [1], 0.0),  # of equals the first
        ("acc", [-3.0, -1.0, -2.0], ["a", "b", "c"], [0, 1], 1.0),
        ("acc_norm", [-4.0, -3.0], ["12345678", "12"], [0], 1.0),
        ("acc_norm", [-4.0, -0.1], ["12345678", ""], [0], 1.0),  # an empty choice is never the best
        ("acc_norm", [-4.0, -4.1], ["éé", "abc"], [1], 1.0),
        ("acc_bytes", [-4.0, -4.1], ["éé", "abc"], [1], 0.0),
        ("mc2", [math.log(0.1), math.log(0.1), math.log(0.2)], ["a", "b", "c"], [0, 1], 0.5),
        ("mc2", [-1000.0, -1000.0], ["a", "b"], [0], 0.5),  # where the harness divides 0 by 0
        ("pct_stereotype", [-1.0, -2.0], ["a", "b"], [0], 1.0),
        ("pct_stereotype", [-1.0, -1.0], ["a", "b"], [0], 0.0),
        ("likelihood_diff", [-1.0, -3.5], ["a", "b"], [0], 2.5),
    ],
)
def test_a_metric_of_choices(
    metric: str, logprobs: list[float], choices: list[str], right: list[int], expected: float
) -> None:
    assert CHOICE_METRICS[metric](answer(logprobs, choices, right)) == pytest.approx(expected)


@pytest.mark.parametrize(("best", "expected"), [(0, 1.0), (1, 0.0), (2, None)])
def test_only_an_answer_that_names_a_person_is_biased_or_not(best: int, expected: float | None) -> None:
    logprobs = [-1.0 if place == best else -2.0 for place in range(3)]
    assert CHOICE_METRICS["biased"](answer(logprobs, ["Al", "Bo", "Unknown"], [2], biased=[0])) == expected


@pytest.mark.parametrize(
    ("extraction", "text", "expected"),
    [
        (Extraction("m"), " so \n", "so"),
        (Extraction("m", re.compile(r"#### (\d+)")), "a #### 1 b #### 2", "1"),
        (Extraction("m", re.compile(r"\d+"), -1), "1 and 2", "2"),
        (Extraction("m", re.compile(r"\d+"), 2), "1 and 2", NOTHING_FOUND),
        (Extraction("m", re.compile(r"(a)|(b)"), -1), "a b", "b"),
        (Extraction("m", re.compile(r"(a*)|(b*)")), "c", NOTHING_FOUND),
        (Extraction("m", re.compile("x")), "", NOTHING_FOUND),
    ],
)
def test_an_answer_is_taken_out_of_a_text(extraction: Extraction, text: str, expected: str) -> None:
    assert extraction.find(text) == expected


def test_what_does_not_count_is_removed_from_both() -> None:
    scorer = TextScorer((Extraction("m"),), ignore_case=True, ignore_punctuation=True, remove=(re.compile(r"\bthe "),))
    assert scorer.score(" the U.S.A.", {}, ["Canada", "usa"]) == {"m": 1.0}
    assert scorer.score("usaa", {}, ["Canada", "usa"]) == {"m": 0.0}


@pytest.mark.parametrize(
    ("task", "text", "right", "expected"),
    [
        ("gsm8k", " 6*3=18\n#### 18", "so\n#### 18", (1, 1)),
        ("gsm8k", " It costs $1,018.", "so\n#### 1018", (0, 1)),
        ("gsm8k", " #### 1,018 or 3", "so\n#### 1018", (1, 0)),
        ("gsm8k", " nothing", "so\n#### 1018", (0, 0)),
        ("gsm8k", " -5", "so\n#### -5", (0, 1)),
        ("gsm8k_cot", " 3 + 4 = 7. The answer is 7.", "7", (1, 1)),
        ("gsm8k_cot", " The answer is 7. No, 8.", "7", (1, 0)),
        ("triviaqa", " The Beatles!", "the beatles", (1,)),
        ("triviaqa", " Beatles", "the beatles", (0,)),
        ("nq_open", " the Beatles", "Beatles", (1,)),
        ("nq_open", " An apple", "a apple", (1,)),
        ("bbh", "So the answer is (A).", "(A)", (1,)),
        ("bbh", "So the answer is (A)", "(A)", (0,)),  # the harness takes the last character for a full stop
        ("bbh", "(A)", "(A)", (0,)),
    ],
)
def test_a_task_scores_a_text(task: str, text: str, right: str, expected: tuple[float, ...]) -> None:
    scorer = load_task(task).scorer
    assert scorer is not None
    assert tuple(scorer.score(text, {}, [right]).values()) == expected
