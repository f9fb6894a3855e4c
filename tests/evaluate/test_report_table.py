"""The report in a terminal."""

from __future__ import annotations

import pytest
from synthetic_runs import card_tasks, task_facts, write_run

from gemcut.evaluate.report import build_report
from gemcut.evaluate.report_table import report_text
from gemcut.evaluate.run_folder import read_run


@pytest.fixture
def printed():
    """The lines of a report at a width."""
    return lambda report, width=80: report_text(report, width).splitlines()


def test_table_fits_80_columns_and_says_all(card_run, printed):
    lines = printed(build_report(read_run(card_run)))
    assert max(len(line) for line in lines) <= 80
    text = " ".join(" ".join(lines).split())
    assert lines[0].startswith("Measured here: starter")
    boolq = next(line for line in lines if line.startswith("BoolQ"))
    assert boolq.split() == "BoolQ, 0-shot acc 60.86 ± 2.70 55.5 to 66.0 61.4 reproduced -0.5".split()
    assert "TriviaQA (Wikipedia): 7.4 below, tolerance 2.9." in text
    assert "question answering" in text
    assert "incomplete, without CommonsenseQA, OpenBookQA, Natural Questions" in text
    assert "Published: Gemma 3 270M (the model's name is 'starter')." in text
    assert "within 2 standard errors + 1.0 point for quantised weights" in text
    assert "Published figures were not measured here." in text
    assert "Intervals of 95 %: Wilson; those of groups are combined from them." in text


def test_reason_of_another_setting(tmp_path, printed):
    tasks = card_tasks()
    tasks["hellaswag"][0]["num_shots"] = 0
    lines = printed(build_report(read_run(write_run(tmp_path / "run", tasks))), 140)
    assert "HellaSwag: 0-shot, published 10-shot." in lines
    assert any("not comparable +0.1" in line for line in lines)


def test_user_task_alone(tmp_path, printed):
    """No published scores, no groups; names with brackets are no markup."""
    items = [{"acc": 1.0}, {"acc": 0.0}]
    run = write_run(
        tmp_path / "run", {"mine": (task_facts("[bold] task", "choices", items, 0), items)}, {"name": "[m]"}
    )
    text = "\n".join(printed(build_report(read_run(run)), 120))
    assert "[bold] task, 0-shot" in text
    assert "50.00 ± 50.00" in text
    assert "verdict" not in text
    assert "Groups" not in text
    assert "Published: nothing to compare with (no scores were published under a name like '[m]'" in text
