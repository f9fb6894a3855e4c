"""Groups of tasks: Gemcut's own, a user's, incomplete ones."""

from __future__ import annotations

import sys

import pytest
from synthetic_runs import card_tasks

from gemcut.errors import DataError, MissingExtraError, NotFoundError
from gemcut.evaluate import groups
from gemcut.evaluate.groups import Group, load_groups, published_means
from gemcut.evaluate.statistics import Interval


def group_figures(given, tasks, intervals=None):
    return groups.group_figures(given, tasks, intervals or {})


def facts(tasks):
    return {name: task for name, (task, _) in tasks.items()}


def test_own_groups_are_the_four_of_the_announcement():
    found = {group.name: group.members for group in load_groups()}
    assert found == {
        "question answering": ("boolq", "commonsense_qa", "openbookqa", "triviaqa", "nq_open"),
        "reasoning": (
            "hellaswag", "piqa", "social_iqa", "winogrande", "arc_easy", "arc_challenge", "bbh", "agieval",
        ),
        "maths and science": ("mmlu", "gsm8k", "math"),
        "coding": ("humaneval", "mbpp"),
    }  # fmt: skip


def test_published_means_of_the_groups():
    """The means that the reference computes from the table by the same grouping."""
    expected = {
        "question answering": (58.3, 63.4, 57.5, 49.6, 58.7), "reasoning": (57.1, 61.2, 64.6, 54.8, 64.8),
        "maths and science": (20.8, 29.1, 36.9, 23.9, 45.0), "coding": (16.8, 24.5, 33.2, 25.6, 38.3),
    }  # fmt: skip
    for group in load_groups():
        assert tuple(published_means(group.members).values()) == pytest.approx(expected[group.name], abs=0.051)


def test_incomplete_group_says_what_is_missing():
    figures = {each.group.name: each for each in group_figures(load_groups(), facts(card_tasks()))}
    answers = figures["question answering"]
    assert not answers.is_complete
    assert answers.missing == ("commonsense_qa", "openbookqa", "nq_open")
    assert (
        answers.members_in_words()
        == "BoolQ, TriviaQA; incomplete, without CommonsenseQA, OpenBookQA, Natural Questions"
    )
    assert answers.published["gemma-7b"] == pytest.approx((83.2 + 63.4) / 2)  # of the same members
    assert figures["coding"].value is None
    assert figures["coding"].members_in_words() == "not measured: HumanEval, MBPP"
    assert figures["coding"].published["gemma-7b"] == pytest.approx((32.3 + 44.4) / 2)


def test_mean_and_error_are_propagated():
    tasks = facts(card_tasks())
    (found,) = group_figures([Group("two", ("boolq", "winogrande"))], tasks)
    values = [100 * tasks[name]["metrics"]["acc"]["value"] for name in ("boolq", "winogrande")]
    errors = [100 * tasks[name]["metrics"]["acc"]["stderr"] for name in ("boolq", "winogrande")]
    assert found.is_complete
    assert found.members_in_words() == "BoolQ, WinoGrande"
    assert found.value == pytest.approx(sum(values) / 2)
    assert found.stderr == pytest.approx((errors[0] ** 2 + errors[1] ** 2) ** 0.5 / 2)
    assert found.interval is None  # that of neither is known
    given = {
        name: Interval(value - 2, value + 3, "Wilson")
        for name, value in zip(("boolq", "winogrande"), values, strict=True)
    }
    (found,) = group_figures([Group("two", ("boolq", "winogrande"))], tasks, given)
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (found.value - 2 / 2**0.5, found.value + 3 / 2**0.5)
    )


def test_benchmark_is_found_under_its_other_task():
    tasks = facts(card_tasks())
    tasks["gsm8k_cot"] = tasks["boolq"]
    (found,) = group_figures([Group("maths", ("gsm8k",))], tasks)
    assert found.measured == {"gsm8k": "gsm8k_cot"}


def test_tasks_that_are_no_shares_are_missing():
    tasks = facts(card_tasks())
    tasks["boolq"]["metrics"]["acc"]["is_percent"] = False
    (found,) = group_figures([Group("one", ("boolq",))], tasks)
    assert found.missing == ("boolq",)


def test_user_groups(tmp_path):
    path = tmp_path / "groups.yaml"
    path.write_text("mine: [my_task, boolq]\n", encoding="utf-8")
    assert load_groups(path) == [Group("mine", ("my_task", "boolq"))]
    tasks = facts(card_tasks())
    tasks["my_task"] = tasks["piqa"]
    (found,) = group_figures(load_groups(path), tasks)
    assert found.measured == {"my_task": "my_task", "boolq": "boolq"}
    assert found.published == {}  # nobody published scores of my_task


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a, b]", r"groups.yaml: is list, expected lines such as `coding: \[humaneval, mbpp\]`"),
        ("", "groups.yaml: is NoneType, expected lines"),
        ("coding: humaneval", "coding is 'humaneval', expected a list of tasks"),
        ("coding: []", r"coding is \[\], expected a list of tasks"),
        ("coding: [1]", r"coding is \[1\], expected a list of tasks"),
        ("coding: [mbpp, mbpp]", "coding names a task twice, expected each once. Delete one."),
        ("coding: [", "is not YAML .*Correct it"),
    ],
)
def test_bad_group_files(tmp_path, text, message):
    path = tmp_path / "groups.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_groups(path)


def test_no_such_file(tmp_path):
    with pytest.raises(NotFoundError, match="no such file"):
        load_groups(tmp_path / "none.yaml")


def test_without_yaml(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtraError, match=r"Groups of tasks need PyYAML.*gemcut\[eval\]"):
        load_groups()
