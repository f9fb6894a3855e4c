"""Two runs on the same items: figures against brute force, and refusals."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from synthetic_runs import card_tasks, figures, task_facts, write_run

from gemcut.errors import UsageError
from gemcut.evaluate.comparison import compare_runs
from gemcut.evaluate.run_folder import read_run
from gemcut.evaluate.statistics import mcnemar


def two_runs(tmp_path, tasks_a, change_b=lambda tasks: tasks):
    """Runs of the same tasks; B's are changed copies."""
    a = write_run(tmp_path / "a", tasks_a)
    tasks_b = change_b(copy.deepcopy(tasks_a))
    for task, items in tasks_b.values():
        task["metrics"] = figures(items)
    return read_run(a), read_run(write_run(tmp_path / "b", tasks_b, {"name": "tuned"}))


def flip(task: str, to_right: int, to_wrong: int):
    """A change that makes so many wrong items right and right items wrong, in the first metric."""

    def change(tasks):
        items = tasks[task][1]
        metric = next(iter(items[0]))
        wrong = [item for item in items if item[metric] == 0][:to_right]
        right = [item for item in items if item[metric] == 1][:to_wrong]
        for item in wrong + right:
            item[metric] = 1 - item[metric]
        return tasks

    return change


def test_difference_flips_and_p_value(tmp_path):
    a, b = two_runs(tmp_path, card_tasks(), flip("boolq", 30, 8))
    found = compare_runs(a, b)
    row = next(each for each in found.tasks if each.task == "boolq")
    values = [np.array([item.metrics["acc"] for item in run.items("boolq")]) for run in (a, b)]
    assert row.difference == pytest.approx(100 * (values[1] - values[0]).mean())
    assert (len(row.lost), len(row.gained)) == (8, 30)
    assert set(row.gained) == {str(index) for index in np.flatnonzero(values[1] > values[0])}
    assert row.p_value == mcnemar(8, 30)
    assert row.p_holm == pytest.approx(7 * row.p_value)  # seven tasks, and this one is the most different
    assert row.verdict == "B better"
    assert row.interval.low < row.difference < row.interval.high
    assert row.interval.method == "bootstrap"
    spread = 100 * (values[1] - values[0]).std(ddof=1) / len(values[0]) ** 0.5
    assert row.interval.high - row.interval.low == pytest.approx(2 * 1.96 * spread, rel=0.05)


def test_pairs_see_what_two_separate_errors_hide(tmp_path):
    """Unpaired, a difference of 3.7 points is within the two standard errors of either run."""
    a, b = two_runs(tmp_path, card_tasks(), flip("boolq", 12, 0))
    row = next(each for each in compare_runs(a, b, tasks=["boolq"]).tasks)
    assert row.difference < 200 * a.tasks["boolq"]["metrics"]["acc"]["stderr"]
    assert row.p_holm < 0.001
    assert row.interval.low > 0


def test_the_same_run_twice(tmp_path):
    a, b = two_runs(tmp_path, card_tasks())
    found = compare_runs(a, b)
    assert (found.mean_difference, found.lost, found.gained, found.p_value) == (0, 0, 0, 1)
    assert {row.verdict for row in found.tasks} == {"no difference shown"}
    assert found.notes == ()
    assert found.b["model"] == "tuned"


def test_overall_mean_weighs_tasks_alike(tmp_path):
    a, b = two_runs(tmp_path, card_tasks(), flip("winogrande", 30, 0))
    found = compare_runs(a, b)
    primary = [row for row in found.tasks if row.is_primary]
    assert len(primary) == 7
    assert found.mean_difference == pytest.approx(sum(row.difference for row in primary) / 7)
    assert found.mean_interval.low < found.mean_difference < found.mean_interval.high
    assert found.gained == 30
    assert found.p_value == mcnemar(0, 30)


def test_seed_changes_the_bootstrap_alone(tmp_path):
    a, b = two_runs(tmp_path, card_tasks(), flip("boolq", 20, 8))
    one, same, other = (compare_runs(a, b, tasks=["boolq"], seed=seed).tasks[0] for seed in (0, 0, 1))
    assert one == same
    assert one.p_value == other.p_value


def test_lower_can_be_better(tmp_path):
    a, b = two_runs(tmp_path, card_tasks(), flip("boolq", 60, 0))
    a.tasks["boolq"]["metrics"]["acc"]["higher_is_better"] = False
    assert compare_runs(a, b, tasks=["boolq"]).tasks[0].verdict == "A better"
    a.tasks["boolq"]["metrics"]["acc"]["higher_is_better"] = None
    assert compare_runs(a, b, tasks=["boolq"]).tasks[0].verdict == "differ"


def test_items_that_are_no_more_than_right_or_wrong_have_no_mcnemar(tmp_path):
    items = [{"mc2": value} for value in np.random.default_rng(0).random(200).tolist()]
    tasks = {"truthfulqa_mc2": (task_facts("TruthfulQA", "choices", items, 0), items)}

    def better(changed):
        for item in changed["truthfulqa_mc2"][1]:
            item["mc2"] = min(1.0, item["mc2"] + 0.05)
        return changed

    a, b = two_runs(tmp_path, tasks, better)
    found = compare_runs(a, b)
    (row,) = found.tasks
    assert (row.p_value, row.lost, row.gained) == (None, (), ())
    assert row.verdict == "B better"
    assert found.p_value is None


def test_figures_that_are_no_means_are_left_out_and_named(tmp_path):
    a, b = two_runs(tmp_path, card_tasks())
    a.tasks["boolq"]["metrics"]["bias"] = {**a.tasks["boolq"]["metrics"]["acc"], "value": 0.2}
    found = compare_runs(a, b, tasks=["boolq"])
    assert [row.metric for row in found.tasks] == ["acc"]
    assert found.notes == ("boolq: bias is no mean of items and is not compared",)


def test_metric_of_some_items_is_compared_on_those(tmp_path):
    tasks = card_tasks()
    facts, items = tasks["boolq"]
    for item in items[:100]:
        item["acc_amb"] = item["acc"]
    facts["metrics"]["accuracy_amb"] = figures(items[:100])["acc_amb"]
    a = read_run(write_run(tmp_path / "a", {"boolq": (facts, items)}))
    row = next(row for row in compare_runs(a, a).tasks if row.metric == "accuracy_amb")
    assert (row.num_items, row.is_primary, row.p_value) == (100, False, 1)


def test_json_has_the_verdicts(tmp_path):
    a, b = two_runs(tmp_path, card_tasks())
    rows = compare_runs(a, b).as_dict()["tasks"]
    assert rows[0]["verdict"] == "no difference shown"
    assert rows[0]["interval"]["method"] == "bootstrap"


def test_tasks_of_one_run_are_named(tmp_path):
    def fewer(tasks):
        del tasks["piqa"]
        return tasks

    a, b = two_runs(tmp_path, card_tasks(), fewer)
    assert compare_runs(a, b).notes == ("only in A: piqa",)
    with pytest.raises(UsageError, match="--tasks piqa: is not in both runs, expected some of hellaswag, boolq"):
        compare_runs(a, b, tasks=["piqa"])


def test_nothing_in_common(tmp_path):
    tasks = card_tasks()
    a = read_run(write_run(tmp_path / "a", {"piqa": tasks["piqa"]}))
    b = read_run(write_run(tmp_path / "b", {"boolq": tasks["boolq"]}))
    with pytest.raises(UsageError, match=r"have no task in common \(piqa; boolq\). Run the same tasks with both"):
        compare_runs(a, b)


@pytest.mark.parametrize(("key", "value"), [("num_shots", 5), ("chat", True), ("system", "Be brief."), ("limit", 327)])
def test_other_settings_are_refused(tmp_path, key, value):
    def change(tasks):
        tasks["boolq"][0][key] = value
        return tasks

    a, b = two_runs(tmp_path, card_tasks(), change)
    with pytest.raises(UsageError, match=f"boolq: {key} is .* in A and {value} in B, expected the same settings"):
        compare_runs(a, b)
    found = compare_runs(a, b, any_settings=True)
    assert found.notes[0].startswith(f"boolq: {key} is ")


def test_seed_of_examples_matters_only_where_there_are_some(tmp_path):
    def change(tasks):
        for task, _ in tasks.values():
            task["seed"] = 1
        return tasks

    a, b = two_runs(tmp_path, card_tasks(), change)
    assert compare_runs(a, b, tasks=["boolq"]).notes == ()
    with pytest.raises(UsageError, match="hellaswag: seed is 0 in A and 1 in B"):
        compare_runs(a, b)


def test_other_data_are_always_refused(tmp_path):
    def change(tasks):
        tasks["boolq"][0]["data"]["sha256"] = "e" * 64
        return tasks

    a, b = two_runs(tmp_path, card_tasks(), change)
    with pytest.raises(UsageError, match="boolq: its data have the SHA-256 ccc.* and eee.*, expected the same rows"):
        compare_runs(a, b, any_settings=True)


def test_other_items_are_refused_or_left_out(tmp_path):
    def fewer(tasks):
        del tasks["boolq"][1][300:]
        return tasks

    a, b = two_runs(tmp_path, card_tasks(), fewer)
    message = r"boolq: .*a has 327 items and .*b has 300, 300 of them in common, expected the same .*'300'"
    with pytest.raises(UsageError, match=message):
        compare_runs(a, b)
    found = compare_runs(a, b, any_settings=True, tasks=["boolq"])
    assert found.tasks[0].num_items == 300
    assert found.notes == ("boolq: 27 items that only one run has are left out",)
    values = [item.metrics["acc"] for item in a.items("boolq")][:300]
    assert found.tasks[0].a == pytest.approx(sum(values) / 3)
