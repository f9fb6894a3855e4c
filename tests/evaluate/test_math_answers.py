"""Written mathematics: what the answer is, whether it is right, and that no answer can hold up a run."""

from __future__ import annotations

import sys

import pytest

from gemcut.errors import BackendError, MissingExtraError
from gemcut.evaluate import math_answers, math_scorer
from gemcut.evaluate.agieval_math import AgievalMathScorer
from gemcut.evaluate.math_answers import NO_ANSWER, boxed_answer, final_answer, normalised, scores
from gemcut.evaluate.math_scorer import MathProcess, MathScorer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("x = 5", "5"),
        ("$\\frac12$", "\\frac{1}{2}"),
        ("10 cm", "10"),
        ("2\\pi cm", "2\\pi"),
        ("\\left(1,2\\right)", "\\left(1,2\\right)"),
        ("\\sqrt3", "\\sqrt{3}"),
        ("\\sqrt[3]8", "\\sqrt[3]{8}"),
        ("10,000", "10000"),
        ("0,1", "0,1"),
        ("$3$ and $4$", "3"),
        ("\\text{even}", "even"),
        ("\\boxed{7}", "7"),
        ("45^\\circ", "45"),
    ],
)
def test_an_answer_is_brought_into_one_form(answer: str, expected: str) -> None:
    assert normalised(answer) == expected


@pytest.mark.parametrize(
    ("solution", "expected"),
    [
        ("So \\boxed{1} or $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}"),
        ("It is $\\boxed 3$.", "3"),
        ("cut \\boxed{2", "2"),
    ],
)
def test_the_answer_of_a_solution_is_in_its_last_box(solution: str, expected: str) -> None:
    assert boxed_answer(solution) == expected


def test_the_answer_of_a_text_is_where_the_examples_have_it() -> None:
    assert final_answer(" It is 2.\nFinal Answer: The final answer is $2$. I hope it is correct.") == "$2$"
    assert final_answer(" It is 2.") == NO_ANSWER


@pytest.mark.parametrize(
    ("text", "solution", "expected"),
    [
        ("Final Answer: The final answer is $0.5$. I hope it is correct.", "\\boxed{\\frac{1}{2}}", (1, 1)),
        ("The answer is $\\frac{1}{2}$.", "It is $\\boxed{\\frac{1}{2}}$.", (0, 1)),
        ("Final Answer: The final answer is $(1,2)$. I hope it is correct.", "\\boxed{(1,2)}", (1, 1)),
        ("Final Answer: The final answer is $[}$. I hope it is correct.", "\\boxed{3}", (0, 0)),
    ],
)
def test_a_solution_is_scored_twice(text: str, solution: str, expected: tuple[float, float]) -> None:
    assert tuple(scores(text, solution).values()) == expected


def test_the_process_gives_the_same_scores() -> None:
    text = "Final Answer: The final answer is $2$. I hope it is correct."
    assert MathScorer().score(text, {}, ["It is $\\boxed{2}$."]) == {"exact_match": 1.0, "math_verify": 1.0}


def test_a_comparison_that_takes_too_long_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sympy

    def forever(*_: object, **__: object) -> None:
        while True:
            pass

    monkeypatch.setattr(math_answers, "TIME_LIMIT_SECONDS", 0.05)
    monkeypatch.setattr(sympy, "simplify", forever)
    monkeypatch.setattr("math_verify.verify", forever)
    assert not math_answers.are_equal("1", "2")
    assert not math_answers.are_equal_to_math_verify("$1$", "$1$")


STUCK = "import sys, time\nfor line in sys.stdin:\n    if 'stop' in line: time.sleep(60)\n    print('{\"m\": 1.0}', flush=True)"


def test_an_answer_that_takes_too_long_is_wrong_and_the_next_one_is_not() -> None:
    process = MathProcess([sys.executable, "-c", STUCK], seconds=0.5)
    try:
        assert process.ask(["stop", ""]) is None
        assert process.ask(["go", ""]) == {"m": 1.0}
    finally:
        process.close()


def test_an_answer_that_ends_the_process_is_wrong() -> None:
    process = MathProcess([sys.executable, "-c", STUCK.replace("time.sleep(60)", "sys.exit()")])
    try:
        assert process.ask(["stop", ""]) is None
        assert process.ask(["go", ""]) == {"m": 1.0}
    finally:
        process.close()


def test_a_process_that_does_not_start() -> None:
    with pytest.raises(BackendError, match=r"^Scoring MATH: `.*` does not answer, expected scores\. Run it"):
        MathProcess([sys.executable, "-c", "raise SystemExit(1)"]).ask(["", ""])


def test_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_scorer, "ANTLR_VERSION", "3")
    with pytest.raises(
        MissingExtraError,
        match=r"^Scoring MATH: antlr4-python3-runtime is .*, expected math-verify, sympy and antlr4-python3-runtime 3\. "
        r'Install the extra: pip install "gemcut\[eval\]"\.$',
    ):
        MathScorer().score("", {}, [""])


@pytest.mark.parametrize(
    ("text", "right", "expected"),
    [
        (" 110.", "110", 1.0),
        (" so $x = \\frac12$", "$\\frac{1}{2}$", 1.0),
        (" \\boxed{0.5}", "$1/2$", 1.0),
        (" \\boxed{y=3\\text{ cm}}", "3", 1.0),
        (" it is 7 and then 8", "7", 0.0),
        (" none", "3", 0.0),
        (" none", "\\text{even}", 1.0),  # the harness takes nothing on both sides for the same
        (" \\boxed{\\sqrt5}", "$\\sqrt{5}$", 1.0),
        (" \\boxed{\\sqrt}", "$\\sqrt$", 1.0),
        (" \\fbox{5", "5", 1.0),
        (" \\boxed 5", "5", 0.0),
    ],
)
def test_a_short_answer_of_agieval(text: str, right: str, expected: float) -> None:
    assert AgievalMathScorer().score(text, {}, [right]) == {"acc": expected}
