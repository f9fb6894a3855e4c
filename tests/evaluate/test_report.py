"""The report as values, as CSV, and its files."""

from __future__ import annotations

import csv
import io
import json

import pytest
from synthetic_runs import card_tasks, figures, item_scores, mmlu_task, task_facts, write_run

from gemcut.errors import NotFoundError, UsageError
from gemcut.evaluate.report import build_report, csv_text, figure_interval, write_report
from gemcut.evaluate.run_folder import read_run
from gemcut.evaluate.statistics import wilson_interval


def rows(report):
    return {task["name"]: task for task in report["tasks"]}


def test_figures_have_errors_and_intervals(card_run):
    report = build_report(read_run(card_run))
    metric = rows(report)["boolq"]["metrics"][0]
    right = round(metric["value"] / 100 * 327)
    expected = wilson_interval(right, 327)
    assert metric["interval"] == "Wilson"
    assert (metric["low"], metric["high"]) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert metric["stderr"] == pytest.approx(2.70, abs=0.01)
    assert (metric["unit"], metric["num_items"]) == ("%", 327)


def test_all_metrics_of_a_task_are_there_the_compared_one_first(card_run):
    task = rows(build_report(read_run(card_run)))["hellaswag"]
    assert [metric["metric"] for metric in task["metrics"]] == ["acc_norm", "acc"]
    assert [metric["is_compared"] for metric in task["metrics"]] == [True, False]


def test_verdicts_against_the_models_own_column(card_run):
    report = build_report(read_run(card_run))
    assert report["published_column"] == {
        "key": "gemma-3-270m", "title": "Gemma 3 270M", "why": "the model's name is 'starter'",
    }  # fmt: skip
    assert report["is_quantised"]
    assert report["verdicts"] == {"reproduced": 6, "below": 1}
    found = rows(report)["triviaqa"]["published"][0]
    assert (found["verdict"], found["score"], found["setting"]) == ("below", 15.4, "matched")
    assert not found["is_metric_published"]
    assert rows(report)["mmlu"]["published"] == []  # the 270M card has no MMLU
    assert rows(report)["mmlu"]["baselines"]["gemma-7b"] == 64.3


def test_other_column_on_request(card_run):
    report = build_report(read_run(card_run), published="gemma-2b")
    assert rows(report)["mmlu"]["published"][0]["score"] == 42.3
    assert rows(report)["hellaswag"]["published"][0]["why"] == "10-shot, published 0-shot"
    nothing = build_report(read_run(card_run), published="none")
    assert nothing["published_column"]["key"] is None
    assert all(not task["published"] for task in nothing["tasks"])
    with pytest.raises(UsageError, match="expected one of llama-2-7b"):
        build_report(read_run(card_run), published="x")


def test_parts_and_groups(card_run):
    report = build_report(read_run(card_run))
    assert [part["subset"] for part in rows(report)["mmlu"]["subsets"]] == [
        "abstract_algebra", "anatomy", "world_religions",
    ]  # fmt: skip
    groups = {group["name"]: group for group in report["groups"]}
    assert groups["maths and science"]["measured"] == {"mmlu": "mmlu"}
    assert groups["coding"]["value"] is None


def test_interval_of_figures_that_are_no_means_is_normal():
    figure = {"value": 0.3, "stderr": 0.1, "num_items": 4}
    assert figure_interval(figure, [0.0, 1.0, 1.0, 1.0]).method == "normal"
    assert figure_interval({**figure, "value": 0.75}, [0.0, 1.0, 1.0, 1.0]).method == "Wilson"
    assert figure_interval({**figure, "stderr": None}, []) is None
    assert figure_interval({**figure, "stderr": 0.0}, []) is None  # it would be a point, and claim to be sure


def test_perplexity_is_no_percentage(tmp_path):
    items = item_scores({"word_perplexity": 0.0}, 3, 0)
    task = task_facts("a text", "rolling", items, 0)
    task["metrics"]["word_perplexity"] |= {
        "value": 17.25,
        "stderr": None,
        "is_percent": False,
        "higher_is_better": False,
    }
    report = build_report(read_run(write_run(tmp_path / "run", {"perplexity": (task, items)})))
    (metric,) = rows(report)["perplexity"]["metrics"]
    assert (metric["value"], metric["stderr"], metric["low"], metric["unit"]) == (17.25, None, None, "")


def test_csv_has_a_line_for_each_metric(card_run):
    lines = list(csv.DictReader(io.StringIO(csv_text(build_report(read_run(card_run))))))
    assert len(lines) == 7 + 4 + 1  # tasks of the card, four second metrics, MMLU
    first = lines[0]
    assert (first["task"], first["metric"], first["published"], first["verdict"]) == (
        "hellaswag", "acc_norm", "40.9", "reproduced",
    )  # fmt: skip
    assert first["published_source"].startswith("Gemma 3 model card")
    assert lines[1]["published"] == ""


def test_files_are_written_into_the_run(card_run):
    found = write_report(card_run)
    names = ("report.json", "report.html", "results.csv", "lm-eval.json", "groups.png", "tasks.png")
    assert sorted(found["files"].values()) == sorted(str(card_run / name) for name in names)
    assert all((card_run / name).stat().st_size > 500 for name in names)
    kept = json.loads((card_run / "report.json").read_text(encoding="utf-8"))
    assert kept == json.loads(json.dumps({key: value for key, value in found.items() if key != "files"}))
    assert (card_run / "tasks.png").read_bytes().startswith(b"\x89PNG")


def test_files_go_where_they_are_asked_to(card_run, tmp_path):
    write_report(
        card_run, html=tmp_path / "x.html", png=tmp_path / "new" / "plots", csv=tmp_path / "x.csv",
        lm_eval=tmp_path / "x.json",
    )  # fmt: skip
    assert {path.name for path in (tmp_path / "new" / "plots").iterdir()} == {"groups.png", "tasks.png"}
    assert (tmp_path / "x.html").is_file()
    assert not (card_run / "report.html").exists()


def test_report_can_be_written_again_and_is_the_same(card_run):
    write_report(card_run)
    before = {path.name: path.read_bytes() for path in card_run.iterdir() if path.is_file()}
    write_report(card_run)
    assert {path.name: path.read_bytes() for path in card_run.iterdir() if path.is_file()} == before


def test_missing_items_are_named(card_run):
    (card_run / "items" / "boolq.jsonl").unlink()
    with pytest.raises(NotFoundError, match="boolq.jsonl: no such file"):
        write_report(card_run)


def test_run_of_an_unknown_model_has_no_verdicts(tmp_path):
    run = write_run(tmp_path / "run", card_tasks() | {"mmlu": mmlu_task()}, {"name": "my-model"})
    report = build_report(read_run(run))
    assert report["published_column"]["why"].startswith("no scores were published under a name like 'my-model'")
    assert report["verdicts"] == {}


def test_task_of_two_benchmarks_has_both_verdicts(tmp_path):
    items = item_scores({"acc": 0.7}, 40, 0)
    facts = task_facts("BBQ", "choices", items, 0)
    for name, mine in (("amb", items[:20]), ("disamb", items[20:])):
        facts["metrics"][f"accuracy_{name}"] = figures(mine)["acc"]
        for item in mine:
            item[f"acc_{name}"] = item["acc"]
    run = read_run(write_run(tmp_path / "run", {"bbq": (facts, items)}, {"name": "gemma-2b"}))
    report = build_report(run)
    task = rows(report)["bbq"]
    assert [(each["metric"], each["score"]) for each in task["published"]] == [
        ("accuracy_amb", 62.58), ("accuracy_disamb", 54.62),
    ]  # fmt: skip
    assert task["baselines"] == {}  # 11 categories are another benchmark
    lines = {line["metric"]: line for line in csv.DictReader(io.StringIO(csv_text(report)))}
    assert lines["accuracy_disamb"]["published"] == "54.62"
    assert lines["accuracy_amb"]["interval"] == "Wilson"
    assert lines["acc"]["published"] == ""
