"""`gemcut eval MODEL`: what it asks, prints and leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gemcut
from gemcut.cli import eval as eval_command
from gemcut.cli.eval_progress import eval_progress
from gemcut.evaluate.task_run import Progress

HELPERS = Path(__file__).resolve().parents[1] / "evaluate"


@pytest.fixture
def helpers(monkeypatch):
    monkeypatch.syspath_prepend(str(HELPERS))
    import runner_models

    return runner_models


@pytest.fixture
def tiny(helpers, monkeypatch, tmp_path):
    """A model that is loaded whatever is named, in an empty folder; `tiny.loads` lists the arguments of each load."""
    model = helpers.number_model(context=200)
    model.loads = []

    def load(reference, **options):
        model.loads.append((reference, options))
        return model

    monkeypatch.setattr(gemcut, "load", load, raising=False)
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.chdir(tmp_path)
    model.sums, model.written = helpers.write_tasks(tmp_path / "tasks")
    return model


def test_a_table_on_standard_output_and_the_rest_beside_it(tiny, invoke):
    result = invoke("eval", "tiny", "--tasks", f"{tiny.sums},{tiny.written}", "--shots", "2")
    assert result.exit_code == 0, result.stderr
    for part in ("Sums, 2-shot", "acc_norm", "Written sums, 2-shot", "exact_match", "95 %"):
        assert part in result.stdout
    assert "sums (1/2): 24 items" in result.stderr
    assert "written (2/2): done, " in result.stderr
    [folder] = Path("gemcut-eval").iterdir()
    assert f"Everything is in {folder}; the page: {folder}/report.html" in result.stderr
    assert invoke("eval", "report", str(folder)).exit_code == 0


def test_the_same_command_asks_nothing_twice(tiny, invoke):
    command = ("eval", "tiny", "--tasks", str(tiny.sums), "--limit", "9")
    first = invoke(*command)
    num_calls = len(tiny.engine_model.scored)
    again = invoke(*command)
    assert again.stdout == first.stdout
    assert "sums (1/1): 9 items, 9 known already" in again.stderr
    assert len(tiny.engine_model.scored) == num_calls
    assert invoke(*command, "--fresh").stdout == first.stdout
    assert len(tiny.engine_model.scored) == 2 * num_calls
    more = invoke("eval", "tiny", "--tasks", str(tiny.sums), "--limit", "10")
    assert "sums: 9 items were answered in another run of this very model." in more.stderr
    assert len(list(Path("gemcut-eval").iterdir())) == 2


def test_json_is_one_document(tiny, invoke):
    result = invoke("eval", "tiny", "--tasks", str(tiny.sums), "--output", "here", "--json", "--quiet")
    facts = json.loads(result.stdout)
    assert (facts["folder"], list(facts["tasks"])) == ("here", ["sums"])
    assert facts["tasks"]["sums"] == json.loads(Path("here/results.json").read_text())["tasks"]["sums"]
    assert result.stderr == ""


def test_only_the_tasks_of_the_command_are_printed(tiny, invoke):
    invoke("eval", "tiny", "--tasks", str(tiny.sums), "--output", "here")
    result = invoke("eval", "tiny", "--tasks", str(tiny.written), "--output", "here")
    assert "Written sums" in result.stdout
    assert "Sums, 0-shot" not in result.stdout


def test_shared_flags_reach_the_model(tiny, invoke):
    invoke("eval", "tiny", "--tasks", str(tiny.sums), "--engine", "jax", "--dtype", "bfloat16", "--threads", "1",
           "--context", "99", "--adapter", "lora", "--limit", "1")  # fmt: skip
    assert tiny.loads == [
        ("tiny", {"engine": "jax", "dtype": "bfloat16", "threads": 1, "context": 99, "adapter": Path("lora")})
    ]


def test_settings_reach_the_run(tiny, invoke):
    arguments = (
        "--chat",
        "--system",
        "Be brief.",
        "--seed",
        "4",
        "--shot-sampling",
        "lm-eval",
        "--log-samples",
        "--shots",
        "1",
    )
    result = invoke("eval", "tiny", "--tasks", str(tiny.sums), *arguments, "--output", "here", "--json")
    task = json.loads(result.stdout)["tasks"]["sums"]
    assert (task["chat"], task["system"], task["seed"], task["shot_sampling"]) == (True, "Be brief.", 4, "lm-eval")
    assert "prompts" in Path("here/items/sums.jsonl").read_text().splitlines()[1]


def test_perplexity_of_a_text(tiny, invoke):
    Path("book.txt").write_text("One and two are three. " * 9, encoding="utf-8")
    result = invoke("eval", "tiny", "--file", "book.txt")
    assert result.exit_code == 0, result.stderr
    assert "Perplexity of book.txt" in result.stdout
    assert "word_perplexity" in result.stdout


def test_notes_are_told(tiny, invoke):
    tiny.context = 20
    result = invoke("eval", "tiny", "--tasks", str(tiny.sums), "--shots", "2")
    assert "sums: 60 of 60 prompts did not fit the model's context of 20 tokens" in result.stderr
    quiet = invoke("eval", "tiny", "--tasks", str(tiny.sums), "--shots", "2", "--quiet")
    assert quiet.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Nothing is asked. Name tasks with --tasks (`gemcut eval tasks` lists them), --suite or --file."),
        (("--tasks", "hella"), 4, "task 'hella': expected one of"),
        (("--suite", "all"), 4, "--suite all: expected one of gemma1-report, gemma3-card, safety, smoke."),
        (("--tasks", "humaneval"), 2, "humaneval: scoring runs programs"),
        (("--file", "no.txt"), 4, "no.txt: no such file"),
        (("--tasks", "boolq"), 4, "boolq/validation_titled.jsonl.gz: not in"),
    ],
    ids=["nothing", "task", "suite", "code", "file", "data"],
)
def test_mistakes_are_told(tiny, invoke, arguments, code, message):
    result = invoke("eval", "tiny", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    if code != 4 or "not in" not in message:
        assert len(tiny.loads) == (message.startswith("humaneval"))


def test_words_after_eval_that_are_no_command_are_models(tiny, invoke):
    assert invoke("eval", "--tasks", str(tiny.sums), "compare").exit_code == 0
    assert tiny.loads[0][0] == "compare"
    result = invoke("eval", "compare", "a", "b")
    assert result.exit_code == 4
    assert "a: holds no results.json" in result.stderr


def test_ctrl_c_says_how_to_go_on(tiny, invoke):
    tiny.engine_model.fails = [KeyboardInterrupt()]
    result = invoke("eval", "tiny", "--tasks", str(tiny.sums), "--output", "here")
    assert (result.exit_code, result.stdout) == (eval_command.INTERRUPTED, "")
    assert "Interrupted. What was answered is in here; run the same command again to go on." in result.stderr
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert invoke("eval", "tiny", "--tasks", str(tiny.sums), "--output", "here").exit_code == 0


CHILD = """
import sys, time
sys.path.insert(0, {helpers!r})
import gemcut, runner_models
from gemcut.evaluate import asker
model = runner_models.number_model()
score = model.engine_model.score_continuations
def slow(*arguments):
    time.sleep(0.2)
    return score(*arguments)
model.engine_model.score_continuations = slow
asker.CALL_ROWS = 3
gemcut.load = lambda *_, **__: model
from gemcut.cli import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
def test_a_signal_ends_the_run_with_its_state_saved(tiny, number, tmp_path):
    command = [sys.executable, "-c", CHILD.format(helpers=str(HELPERS)), "eval", "tiny", "--tasks", str(tiny.sums)]
    process = subprocess.Popen([*command, "--output", "here"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))  # fmt: skip
    path, end = tmp_path / "here" / "items" / "sums.jsonl", time.monotonic() + 60
    while (
        process.poll() is None
        and time.monotonic() < end
        and not (path.is_file() and path.read_bytes().count(b"\n") > 2)
    ):
        time.sleep(0.02)
    os.kill(process.pid, number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (75, ""), errors
    assert "run the same command again to go on" in errors
    assert 2 < path.read_bytes().count(b"\n") < 25


def test_a_terminal_shows_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "120")):
        monkeypatch.setenv(name, value)
    with eval_progress(quiet=False) as note:
        note(Progress("boolq", "encoding", 2, 3, 0, 3270))
        note(Progress("boolq", "asking", 2, 3, 100, 3270, 0, 5000))
        note(Progress("boolq", "asking", 2, 3, 1234, 3270, 2500, 5000))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "boolq 2/3" in shown.err
    assert "1,234/3,270 items" in shown.err


def test_quiet_shows_nothing():
    with eval_progress(quiet=True) as note:
        assert note is None


def test_help_names_every_option_and_the_other_commands(invoke):
    text = invoke("eval", "--help").stdout
    for option in ("--tasks", "--suite", "--shots", "--limit", "--seed", "--shot-sampling", "--chat", "--system", "--data",
                   "--log-samples", "--output", "--file", "--allow-code-execution", "--fresh", "--engine", "--dtype",
                   "--threads", "--context", "--adapter", "--json", "--quiet"):  # fmt: skip
        assert option in text
    for name in ("report RUN", "compare A B", "claims"):
        assert f"gemcut eval {name}" in text
