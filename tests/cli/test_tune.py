"""`gemcut tune --dry-run`: the recipe that flags mean, and the report on standard output."""

from __future__ import annotations

import json

import pytest

from gemcut.cli.tune_recipe import held_out_of, mapping_of, recipe_of
from gemcut.errors import NotFoundError, UsageError

ROWS = [{"question": f"The river {number}?", "answer": f"house {number}."} for number in range(6)]


@pytest.fixture
def tiny(write_tiny_model, tmp_path, monkeypatch):
    """A folder with a small model and data, which is the current one."""
    write_tiny_model(tmp_path / "tiny")
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def test_the_report_on_standard_output(tiny, invoke):
    result = invoke("tune", "./tiny", "data.jsonl", "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.startswith("Data for tuning ./tiny\nfiles          data.jsonl")
    assert "prompt-completion: prompt = 'question', completion = 'answer'" in " ".join(result.stdout.split())
    assert "<bos>The river 0?»house 0.<eos>«" in result.stdout


def test_flags_reach_the_recipe(tiny, invoke):
    result = invoke(
        "tune", "./tiny", "data.jsonl", "--dry-run", "--json", "--map", "prompt=Q: {question}\\nA:",
        "--map", "completion= {answer}", "--sequence-length", "64", "--no-packing", "--held-out", "0.3",
        "--batch", "1", "--epochs", "2", "--seed", "5",
    )  # fmt: skip
    report = json.loads(result.stdout)
    assert report["shown"]["pieces"][0][0].startswith("<bos>Q: The river")
    assert "\nA:" in report["shown"]["pieces"][0][0]
    assert (report["num_samples"], report["num_held_out"]) == (4, 2)
    assert report["plan"]["packing"] is False
    assert report["plan"]["num_steps"] == 8


def test_a_recipe_and_flags_that_change_it(tiny, invoke):
    (tiny / "r.yaml").write_text(
        "model: ./tiny\ndata: nowhere.jsonl\nbatch_size: 1\nsamples: {packing: false}\n", encoding="utf-8"
    )
    result = invoke("tune", "r.yaml", "data.jsonl", "--dry-run", "--json", "--accumulation", "3")
    plan = json.loads(result.stdout)["plan"]
    assert (plan["batch_size"], plan["accumulation"], plan["packing"], plan["num_steps"]) == (1, 3, False, 2)


def test_the_page(tiny, invoke):
    result = invoke("tune", "./tiny", "data.jsonl", "--dry-run", "--page", "report.html")
    assert "Data for tuning ./tiny" in (tiny / "report.html").read_text(encoding="utf-8")
    assert "Written: report.html" in result.stderr


ERRORS = {
    "no such file": (["./tiny", "x.jsonl", "--dry-run"], 4, "x.jsonl: neither here nor at"),
    "no data": (["./tiny", "--dry-run"], 2, "gemcut tune ./tiny: names no data. Add files"),
    "choice": (["./tiny", "data.jsonl", "--dry-run", "--overlong", "cut"], 2, "overlong is 'cut', expected one of error, truncate"),
    "map": (["./tiny", "data.jsonl", "--dry-run", "--map", "prompt"], 2, "--map prompt: expected FIELD=COLUMN"),
    "data": (["./tiny", "bad.jsonl", "--dry-run"], 3, "bad.jsonl, line 2: is not valid JSON"),
    "long": (["./tiny", "data.jsonl", "--dry-run", "--sequence-length", "8"], 3, "6 samples are longer than a row of 8"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "text"), ERRORS.values(), ids=list(ERRORS))
def test_mistakes(tiny, invoke, arguments, code, text):
    (tiny / "bad.jsonl").write_text('{"text": "a"}\n{"text": \n', encoding="utf-8")
    result = invoke("tune", *arguments)
    assert result.exit_code == code
    assert text in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_what_held_out_means():
    assert held_out_of(None) == {}
    assert held_out_of("0.05") == {"evaluation.share": 0.05, "evaluation.data": None}
    assert held_out_of("dev.jsonl") == {"evaluation.data": "dev.jsonl", "evaluation.share": 0.0}


def test_what_map_means():
    assert mapping_of([]) is None
    assert mapping_of(["prompt=a\\nb", "completion=\\t{x}="]) == {"prompt": "a\\nb", "completion": "\t{x}="}


def test_recipes_that_are_none(tmp_path):
    with pytest.raises(NotFoundError, match=r"r.yaml: no such file"):
        recipe_of(str(tmp_path / "r.yaml"), [], {})
    for data, text in ((b"- a\n", "r.yaml: is list, expected keys"), (b"\xff", "r.yaml: byte 1 is not UTF-8")):
        (tmp_path / "r.yaml").write_bytes(data)
        with pytest.raises(UsageError, match=text):
            recipe_of(str(tmp_path / "r.yaml"), [], {})
