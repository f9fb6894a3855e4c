"""`gemcut eval report`, `eval compare` and `eval claims` print what the library gives."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluate"))

from synthetic_runs import card_tasks, figures, write_run


@pytest.fixture
def runs(tmp_path):
    """Two runs of the card's tasks; in the second, 40 more items of BoolQ are right."""
    tasks = card_tasks()
    a = write_run(tmp_path / "a", tasks)
    task, items = tasks["boolq"]
    for item in [item for item in items if item["acc"] == 0][:40]:
        item["acc"] = 1.0
    task["metrics"] = figures(items)
    return str(a), str(write_run(tmp_path / "b", tasks, {"name": "tuned"}))


def test_report_prints_tables_and_names_its_files(invoke, runs):
    result = invoke("eval", "report", runs[0])
    assert result.exit_code == 0
    assert result.stdout.startswith("Measured here: starter")
    assert "reproduced" in result.stdout
    assert result.stderr.startswith(f"Written: {runs[0]}/report.json, {runs[0]}/report.html")
    assert (Path(runs[0]) / "lm-eval.json").is_file()


def test_report_as_json_to_other_places(invoke, runs, tmp_path):
    groups = tmp_path / "groups.yaml"
    groups.write_text("mine: [boolq, piqa]\n", encoding="utf-8")
    result = invoke(
        "eval", "report", runs[0], "--json", "--quiet", "--published", "gemma-2b", "--groups", str(groups),
        "--html", str(tmp_path / "x.html"), "--png", str(tmp_path), "--csv", str(tmp_path / "x.csv"),
        "--lm-eval", str(tmp_path / "x.json"),
    )  # fmt: skip
    found = json.loads(result.stdout)
    assert found["published_column"]["title"] == "Gemma 2B"
    assert [group["name"] for group in found["groups"]] == ["mine"]
    assert result.stderr == ""
    assert {path.name for path in tmp_path.glob("x.*")} == {"x.html", "x.csv", "x.json"}


def test_report_of_no_run_ends_with_4(invoke, tmp_path):
    result = invoke("eval", "report", str(tmp_path))
    assert result.exit_code == 4
    assert "holds no results.json" in result.stderr


def test_compare_prints_differences_and_flips(invoke, runs):
    result = invoke("eval", "compare", *runs, "--flips", "3")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("A: starter, ")
    assert lines[1].startswith("B: tuned, ")
    boolq = next(line for line in lines if line.startswith("BoolQ "))
    assert boolq.split()[:5] == ["BoolQ", "acc", "60.86", "73.09", "+12.23"]
    assert " ".join(boolq.split()).endswith("0 40 < 0.0001 B better")
    text = " ".join(result.stdout.split())
    assert "All items together: lost 0, won 40, McNemar p < 0.0001." in text
    assert "BoolQ, lost in B: none" in text
    assert "and 37 more" in text
    assert "Mean over tasks: +1.75 points" in text


def test_compare_of_some_tasks_as_json(invoke, runs):
    found = json.loads(invoke("eval", "compare", *runs, "--tasks", "boolq, piqa", "--json", "--seed", "3").stdout)
    assert {row["task"] for row in found["tasks"]} == {"boolq", "piqa"}
    assert len(found["tasks"][0]["gained"]) == 40
    assert found["p_value"] < 1e-9


def test_compare_without_flips(invoke, runs):
    assert "lost in B" not in invoke("eval", "compare", *runs, "--flips", "0").stdout


def test_compare_refuses_other_settings_unless_told(invoke, runs, tmp_path):
    other = str(write_run(tmp_path / "c", card_tasks(num_shots=1)))
    result = invoke("eval", "compare", runs[0], other)
    assert result.exit_code == 2
    assert "num_shots is 10 in A and 1 in B" in result.stderr
    result = invoke("eval", "compare", runs[0], other, "--any-settings")
    assert result.exit_code == 0
    assert "Note: hellaswag: num_shots is 10 in A and 1 in B." in result.stdout


def test_claims_say_that_figures_are_published(invoke):
    result = invoke("eval", "claims")
    assert result.exit_code == 0
    assert result.stdout.startswith("Figures are PUBLISHED ones, not measured here: Gemma report, table 6.")
    text = " ".join(result.stdout.split())
    assert "holds: Gemma 7B is below Llama 2 13B in question answering. -4.6 to Llama 2 13B" in text
    assert "holds in part: Gemma 7B is best on 11 of 18 benchmarks." in text
    assert "question answering: BoolQ, CommonsenseQA, OpenBookQA, TriviaQA, Natural Questions" in text
    assert "Prints the average 54.0 for Mistral 7B; that of its rows is 54.5." in text
    assert "measured " not in result.stdout.split("\n", 1)[1]


def test_claims_with_a_run_mark_what_was_measured(invoke, runs):
    result = invoke("eval", "claims", "--run", runs[0])
    text = " ".join(result.stdout.split())
    assert "The column `measured` is of the run's model, starter. As a published model: Gemma 3 270M" in text
    hellaswag = next(line for line in result.stdout.splitlines() if line.startswith("  HellaSwag"))
    assert " ".join(hellaswag.split()).endswith("81.2 41.0 ± 2.5")
    found = json.loads(invoke("eval", "claims", "--run", runs[0], "--json").stdout)
    assert found["measured_model"] == "starter"
    assert found["claims"][0]["evidence"][1]["measured"]["value"] == pytest.approx(41.0)
