"""Programs that a model wrote, with their tests."""

from __future__ import annotations

import pytest

from gemcut.errors import DataError, UsageError
from gemcut.evaluate import sandbox
from gemcut.evaluate.code_answers import CodeScorer, humaneval_program, mbpp_program

DOUBLE = {
    "prompt": 'def double(x):\n    """Twice x."""\n',
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
    "entry_point": "double",
}
TRIPLE = {"test_list": ["assert triple(2) == 6", "assert triple(0) == 0"]}


@pytest.fixture
def can_run() -> None:
    if not sandbox.available().works:
        pytest.skip(f"no sandbox here: {sandbox.available().reason}")


def test_programs_are_put_together_as_lm_eval_does() -> None:
    assert humaneval_program("    return 2 * x", DOUBLE) == (
        'def double(x):\n    """Twice x."""\n    return 2 * x\n'
        "def check(candidate):\n    assert candidate(2) == 4\n\ncheck(double)"
    )
    assert mbpp_program("def triple(x): return 3 * x\n[DONE]\nmore", TRIPLE) == (
        "def triple(x): return 3 * x\n\nassert triple(2) == 6\nassert triple(0) == 0"
    )


@pytest.mark.usefixtures("can_run")
@pytest.mark.parametrize(
    ("form", "text", "row", "passes"),
    [
        ("humaneval", "    return 2 * x\n", DOUBLE, 1.0),
        ("humaneval", "    return 3 * x\n", DOUBLE, 0.0),
        ("humaneval", "    return (\n", DOUBLE, 0.0),
        ("humaneval", "    exit(0)\n", DOUBLE, 0.0),
        ("mbpp", "def triple(x): return 3 * x\n[DONE]", TRIPLE, 1.0),
        ("mbpp", "def triple(x): return x + 4", TRIPLE, 0.0),
        ("mbpp", "", TRIPLE, 0.0),
    ],
)
def test_an_answer_scores_one_where_its_tests_pass(form: str, text: str, row: dict, passes: float) -> None:
    assert CodeScorer(form).allowed().score(text, row) == {"pass@1": passes}


@pytest.mark.usefixtures("can_run")
def test_several_answers_are_run_in_order() -> None:
    answers = [(f"    return {factor} * x", DOUBLE) for factor in (2, 3, 2)]

    assert [result.passed for result in CodeScorer("humaneval").allowed().run_all(answers)] == [True, False, True]


def test_nothing_runs_unless_it_was_allowed() -> None:
    with pytest.raises(UsageError, match="Allow it with --allow-code-execution"):
        CodeScorer("humaneval").score("    return 2 * x", DOUBLE)


def test_a_row_without_its_fields_is_named() -> None:
    with pytest.raises(DataError, match="a row of mbpp has no field 'test_list'"):
        CodeScorer("mbpp").allowed().score("x = 1", {})


def test_an_unknown_form_is_named() -> None:
    with pytest.raises(UsageError, match="form is 'haskell', expected one of humaneval, mbpp"):
        CodeScorer("haskell")
