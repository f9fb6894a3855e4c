"""Published scores: whole, with their sources; which column a model is; and the verdicts."""

from __future__ import annotations

import pytest

from gemcut.errors import UsageError
from gemcut.evaluate import published
from gemcut.evaluate.groups import load_groups
from gemcut.evaluate.task_file import task_names


def score(column: str, benchmark: str) -> published.PublishedScore:
    return published.scores_of(column, benchmark)[0]


def test_every_score_has_a_source_and_belongs_to_a_known_model_and_benchmark():
    scores = published.published_scores()
    assert len(scores) == 18 * 5 + 6 * 2 + 10 * 3 + 9 * 3 + 16 + 7 + 6 + 14 + 13 + 6 + 20
    for each in scores:
        assert 0 <= each.score <= 100
        assert each.source
        assert each.url.startswith("https://")
        assert each.setting
        assert each.column in published.columns()
        assert each.benchmark in published.published_data()["benchmarks"]
        assert each.kind in ("capability", "safety")


@pytest.mark.parametrize(
    ("column", "average"),
    [("llama-2-7b", 46.9), ("llama-2-13b", 52.4), ("mistral-7b", 54.5), ("gemma-2b", 45.0), ("gemma-7b", 56.9)],
)
def test_means_of_the_reports_rows(column, average):
    """A copying error in one of the 90 cells would move them."""
    table = published.published_data()["tables"][0]
    index = table["columns"].index(column)
    assert sum(row["scores"][index] for row in table["rows"]) / 18 == pytest.approx(average, abs=0.06)


@pytest.mark.parametrize(
    ("column", "benchmark", "value", "shots"),
    [
        ("gemma-3-270m", "hellaswag", 40.9, 10), ("gemma-3-270m", "boolq", 61.4, 0), ("gemma-3-270m", "piqa", 67.7, 0),
        ("gemma-3-270m", "triviaqa", 15.4, 5), ("gemma-3-270m", "arc_challenge", 29.0, 25),
        ("gemma-3-270m", "arc_easy", 57.7, 0), ("gemma-3-270m", "winogrande", 52.0, 5),
        ("gemma-3-270m-it", "ifeval", 51.2, 0), ("gemma-3-1b", "nq_open", 9.48, 5), ("gemma-3-1b-it", "gsm8k", 62.8, 0),
        ("gemma-3-4b", "agieval", 42.1, (3, 5)), ("gemma-2-2b", "gsm8k", 23.9, 5), ("gemma-7b", "mmlu", 64.3, 5),
    ],
)  # fmt: skip
def test_cells(column, benchmark, value, shots):
    found = score(column, benchmark)
    assert (found.score, found.shots) == (value, shots)


def test_marks_and_errors_of_the_record_are_noted():
    assert score("mistral-7b", "social_iqa").mark == "*"
    assert score("mistral-7b", "social_iqa").notes == ("Run by Google.",)
    assert score("mistral-7b", "mbpp").mark == "*†"
    assert any("50.2" in note for note in score("gemma-7b", "mbpp").notes)
    assert any("prints 59.7" in note for note in score("gemma-2b", "social_iqa").notes)
    assert any("look swapped" in note for note in score("gemma-2b", "truthfulqa_mc2").notes)
    assert any("62.2 %" in note for note in score("gemma-3-270m", "boolq").notes)
    assert score("gemma-7b", "piqa").notes == ()


def test_two_settings_of_one_benchmark_are_kept():
    assert [each.score for each in published.scores_of("gemma-7b", "arc_challenge")] == [53.2, 61.9]
    assert [each.metric for each in published.scores_of("gemma-7b", "arc_challenge")] == [None, "acc_norm"]


def test_benchmarks_and_tasks_know_each_other():
    assert published.benchmarks_of("gsm8k_cot") == ["gsm8k"]
    assert published.benchmarks_of("bbq") == ["bbq_ambig", "bbq_disambig"]
    assert published.benchmarks_of("my_task") == []
    assert published.tasks_of("my_task") == ["my_task"]
    assert published.benchmark_title("social_iqa") == "SIQA"
    assert published.points_text(29.0) == "29.0"
    assert published.points_text(9.48) == "9.48"


def test_tasks_of_benchmarks_exist():
    named = {task for each in published.published_data()["benchmarks"].values() for task in each["tasks"]}
    assert named <= set(task_names())
    groups = {member for group in load_groups() for member in group.members}
    assert all(published.tasks_of(member) for member in groups)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("starter", "gemma-3-270m"),
        ("gemma-3-270m", "gemma-3-270m"),
        ("google/gemma-3-270m-it", "gemma-3-270m-it"),
        ("models/gemma-3-270m-it-Q4_K_M.gguf", "gemma-3-270m-it"),
        ("gemma-7b", "gemma-7b"),
        ("gemma-7b-Q4_0.gguf", "gemma-7b"),
        ("mistral-7b-v0.1", "mistral-7b"),
        ("gemma-3-1b-pt", "gemma-3-1b"),
        ("gemma-7b-it", None),  # the report's table has the base model
        ("codegemma-7b", None),
        ("code-gemma-7b", None),
        ("llama-2-7b-chat", None),
        ("my-model", None),
    ],
)
def test_column_by_name(name, column):
    found, why = published.choose_column({"name": name})
    assert (found.key if found else None) == column
    assert why


def test_model_with_an_adapter_is_no_published_one():
    found, why = published.choose_column({"name": "starter", "adapter_sha256": "f" * 64})
    assert (found, why) == (None, "an adapter makes it another model; --published names a column all the same")
    found, _ = published.choose_column({"name": "starter", "adapter_sha256": "f" * 64}, "gemma-3-270m")
    assert found.key == "gemma-3-270m"


def test_column_by_request():
    found, why = published.choose_column({"name": "my-model"}, "gemma-2b")
    assert (found.title, why) == ("Gemma 2B", "--published gemma-2b")
    assert published.choose_column({"name": "starter"}, "none") == (None, "--published none")
    with pytest.raises(UsageError, match="--published gemma-9: expected one of llama-2-7b, .*, or none"):
        published.choose_column({"name": "starter"}, "gemma-9")


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("starter", "Q8_0", True), ("starter", "float32", True), ("gemma-2b", "float32", False),
        ("gemma-2b", "BF16", False), ("gemma-2b-q4_0.gguf", "bfloat16", True), ("gemma-2b", "Q4_K", True),
    ],
)  # fmt: skip
def test_quantised_weights_are_told(name, dtype, expected):
    assert published.is_quantised({"name": name, "dtype": dtype}) is expected


def task(value: float, stderr: float | None = 0.005, **changes):
    figure = {"value": value, "stderr": stderr, "num_items": 1000, "is_percent": True, "higher_is_better": True}
    facts = {
        "metrics": {"acc_norm": figure, "acc": {**figure, "value": 0.1}}, "primary_metric": "acc_norm", "num_shots": 10,
        "num_items": 1000, "num_total": 1000, "chat": False,
    }  # fmt: skip
    return facts | changes


def verdict(facts, *, is_quantised=True, is_tuned=False, benchmark="hellaswag", column="gemma-3-270m"):
    scores = published.scores_of(column, benchmark)
    return published.verdicts(facts, scores, is_quantised=is_quantised, is_tuned=is_tuned)[0]


@pytest.mark.parametrize(
    ("value", "is_quantised", "word"),
    [
        (0.4289, True, "reproduced"), (0.4291, True, "above"), (0.3889, True, "below"), (0.4189, False, "reproduced"),
        (0.4191, False, "above"), (0.409, False, "reproduced"),
    ],
)  # fmt: skip
def test_tolerance_is_two_errors_and_a_point_for_quantised_weights(value, is_quantised, word):
    found = verdict(task(value), is_quantised=is_quantised)
    assert (found.word, found.setting, found.why) == (word, "matched", "")
    assert found.tolerance == pytest.approx(2.0 if is_quantised else 1.0)
    assert found.difference == pytest.approx(100 * value - 40.9)


@pytest.mark.parametrize(
    ("changes", "setting", "why"),
    [
        ({"num_shots": 0}, "different", "0-shot, published 10-shot"),
        ({"chat": True}, "different", "measured with the chat template"),
        ({"num_items": 100}, "matched", "only 100 of 1,000 items"),
        ({"num_items": 100, "num_shots": 0}, "different", "only 100 of 1,000 items; 0-shot, published 10-shot"),
    ],
)
def test_not_comparable(changes, setting, why):
    found = verdict(task(0.409, **changes))
    assert (found.word, found.setting, found.why) == ("not comparable", setting, why)


def test_held_out_items_do_not_make_it_incomparable():
    assert verdict(task(0.409, num_items=995)).word == "reproduced"


def test_without_an_error_nothing_is_said():
    found = verdict(task(0.409, stderr=None))
    assert (found.word, found.tolerance, found.why) == ("not comparable", None, "no standard error")


def test_tuned_model_needs_its_template():
    found = verdict(task(0.628, num_shots=0), is_tuned=True, benchmark="gsm8k", column="gemma-3-1b-it")
    assert (found.word, found.why) == ("not comparable", "measured without the chat template")
    assert verdict(
        task(0.63, num_shots=0, chat=True), is_tuned=True, benchmark="gsm8k", column="gemma-3-1b-it"
    ).word == ("reproduced")


def test_setting_that_the_source_leaves_open_is_said():
    found = verdict(task(0.73, num_shots=0), benchmark="arc_easy", column="gemma-2b")
    assert (found.setting, found.word) == ("not stated", "reproduced")
    assert found.why == "0-shot, the source says 'not printed'"


def test_range_of_shots():
    assert verdict(task(0.42, num_shots=4), benchmark="agieval", column="gemma-3-4b").setting == "matched"
    assert verdict(task(0.42, num_shots=0), benchmark="agieval", column="gemma-3-4b").setting == "different"


def test_matched_setting_comes_first():
    facts = task(0.619, num_shots=25)
    found = published.verdicts(
        facts, published.scores_of("gemma-7b", "arc_challenge"), is_quantised=False, is_tuned=False
    )
    assert [each.published.score for each in found] == [61.9, 53.2]
    assert [each.setting for each in found] == ["matched", "not stated"]


def test_named_metric_is_the_one_that_is_compared():
    facts = task(0.619, num_shots=5)
    facts["primary_metric"] = "acc_norm"
    found = verdict(facts, benchmark="winogrande", column="mistral-7b")
    h6 = published.verdicts(facts, published.scores_of("mistral-7b", "winogrande"), is_quantised=False, is_tuned=False)
    assert {each.metric for each in h6} == {"acc", "acc_norm"}
    assert found.published.metric == "acc"
    del facts["metrics"]["acc"]
    (other,) = [
        each
        for each in published.verdicts(
            facts, published.scores_of("mistral-7b", "winogrande"), is_quantised=False, is_tuned=False
        )
        if each.published.metric == "acc"
    ]
    assert (other.setting, other.why) == ("different", "acc_norm, published acc")


def test_benchmark_that_no_task_measures_in_full_is_not_comparable():
    facts = task(0.83, num_shots=1, chat=True)
    facts["metrics"] = {"acc": facts["metrics"]["acc"], "accuracy_amb": facts["metrics"]["acc_norm"]}
    facts["primary_metric"] = "acc"
    found = verdict(facts, is_tuned=True, benchmark="bbq_ambig", column="gemma-2-2b-it")
    assert (found.word, found.metric, found.why) == ("not comparable", "accuracy_amb", "6 of the 11 categories here")
    assert found.difference == pytest.approx(83.0 - 83.2)


def test_figure_that_is_no_share_has_no_verdict():
    facts = task(8.0)
    facts["metrics"]["acc_norm"]["is_percent"] = False
    scores = published.scores_of("gemma-3-270m", "hellaswag")
    assert published.verdicts(facts, scores, is_quantised=True, is_tuned=False) == []
