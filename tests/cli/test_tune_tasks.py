"""`gemcut tune --tasks`: benchmarks are asked of the state at hand, and their scores are written down."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from gemcut.cli.tune_tasks import check_tasks
from gemcut.errors import NotFoundError, UsageError
from gemcut.tune.run_log import read_log

TASK = """
title: Say it
kind: choices
data: {set: ".", file: rows.jsonl}
fields: [question, choices, gold]
prompt: "{{ question }}"
choices: choices
gold: gold
"""


def test_tasks_that_cannot_be_asked_are_told_before_anything_is_trained():
    check_tasks(["piqa"])
    with pytest.raises(UsageError, match="humaneval: runs programs that the model writes"):
        check_tasks(["humaneval"])
    with pytest.raises(NotFoundError, match="task 'nothing'"):
        check_tasks(["nothing"])


@pytest.mark.backend
@pytest.mark.keras
def test_scores_are_in_the_log_and_the_report(write_tiny_model, tmp_path, engine):
    write_tiny_model(tmp_path / "tiny")
    pairs = [{"prompt": f"Say {number}:", "completion": " hello hello hello"} for number in range(8)]
    rows = [
        {"question": f"Say {number}:", "choices": ["house house house", "hello hello hello"], "gold": 1}
        for number in range(12)
    ]
    for name, lines in (("pairs", pairs), ("rows", rows)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "say.yaml").write_text(TASK)
    command = (
        f"tune ./tiny pairs.jsonl --engine {engine} --dtype float32 --sequence-length 64 --steps 24 --batch 1 "
        "--learning-rate 0.02 --evaluate-every 12 --tasks say.yaml --task-limit 10 --task-data . --output run --quiet"
    )
    done = subprocess.run(
        [sys.executable, "-m", "gemcut", *command.split()], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    evaluations = [entry for entry in read_log(tmp_path / "run") if entry["kind"] == "evaluation"]
    assert [entry["step"] for entry in evaluations] == [0, 12, 24]
    assert all(entry["loss"] is None for entry in evaluations)
    scores = [entry["tasks"]["say"] for entry in evaluations]
    assert scores[0] < scores[-1] == 1.0
    page = (tmp_path / "run" / "report.html").read_text()
    assert '<th scope="col">say</th>' in page
    assert "<td>1.0000</td>" in page
    assert not (tmp_path / "run" / ".evaluated").exists()
