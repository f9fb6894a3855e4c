"""The command line as a whole: help, version, errors, exit codes, and nothing heavy before it is needed."""

import json
import os
import subprocess
import sys

import pytest

import gemcut
from gemcut.errors import BackendError, CheckpointError, ConfigError, GemcutError, NotFoundError, UsageError

ENVIRONMENT = {**os.environ, "COLUMNS": "100"}


def command(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "gemcut", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


@pytest.mark.parametrize(
    "name", ["run", "chat", "pull", "models", "rm", "show", "check-licence", "doctor", "bench", "serve", "eval"]
)
def test_every_command_has_help_with_examples(name, invoke):
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert f"Usage: gemcut {name}" in result.stdout
    assert f"\n    gemcut {name}" in result.stdout


def test_help_lists_commands_references_and_exit_codes(invoke):
    text = invoke("--help").stdout
    for part in ("run ", "chat ", "show ", "doctor ", "bench ", "hf:ORG/REPO", "Exit codes: 0 done"):
        assert part in text


def test_a_wrong_command_is_told(invoke):
    assert "No such command 'plul'" in invoke("plul").stderr


def test_every_reserved_name_is_a_command():
    from gemcut.cli.app import app
    from gemcut.hub import COMMAND_NAMES

    assert not COMMAND_NAMES - {command.name for command in app.registered_commands}


@pytest.mark.parametrize(
    "name", ["", "run", "chat", "pull", "models", "rm", "show", "check-licence", "doctor", "bench", "serve", "eval"]
)
def test_help_fits_80_columns(monkeypatch, invoke, name):
    monkeypatch.setenv("COLUMNS", "80")
    lines = invoke(*filter(None, [name]), "--help").stdout.splitlines()
    assert max(map(len, lines)) <= 80


def test_version(invoke):
    assert invoke("--version").stdout == f"gemcut {gemcut.__version__}\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(GemcutError("it failed"), 1, id="work"),
        pytest.param(BackendError("no backend"), 1, id="backend"),
        pytest.param(UsageError("odd flag"), 2, id="usage"),
        pytest.param(CheckpointError("bad file"), 3, id="checkpoint"),
        pytest.param(ConfigError("bad config"), 3, id="config"),
        pytest.param(NotFoundError("no model"), 4, id="not-found"),
    ],
)
def test_errors_give_their_message_and_exit_code(monkeypatch, invoke, error, code):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(gemcut, "load", fail, raising=False)
    result = invoke("run", "starter", "x")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == f"gemcut: {error}\n"


def test_unexpected_error_is_short_and_names_the_debug_switch(monkeypatch, invoke):
    def fail(*_, **__):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(gemcut, "load", fail, raising=False)
    result = invoke("run", "starter", "x")
    assert result.exit_code == 1
    assert (
        result.stderr == "gemcut: ZeroDivisionError: by zero. This is a fault of Gemcut; GEMCUT_DEBUG=1 shows where.\n"
    )


@pytest.mark.parametrize("error", [UsageError("odd flag"), ZeroDivisionError("by zero")], ids=["ours", "unexpected"])
def test_debug_switch_lets_errors_through(monkeypatch, error):
    from gemcut.cli import main

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(gemcut, "load", fail, raising=False)
    monkeypatch.setenv("GEMCUT_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["gemcut", "run", "starter", "x"])
    with pytest.raises(type(error), match=str(error)):
        main()


def test_interrupt_outside_an_answer_ends_with_130(monkeypatch, invoke):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(gemcut, "load", interrupt, raising=False)
    result = invoke("run", "starter", "x")
    assert (result.exit_code, result.stdout) == (130, "")


def test_module_runs_as_the_command_and_wrong_use_ends_with_2():
    result = command("run", env=ENVIRONMENT)
    assert result.returncode == 2
    assert "Missing argument 'MODEL'" in result.stderr
    assert "Usage: gemcut run" in result.stderr
    assert result.stdout == ""


def test_unknown_model_ends_with_4_without_traceback():
    result = command("run", "gema-2b", "x", env=ENVIRONMENT)
    assert result.returncode == 4
    assert "Close names: gemma-2b" in result.stderr
    assert "Traceback" not in result.stderr


def test_broken_pipe_is_quiet():
    with subprocess.Popen(
        [sys.executable, "-m", "gemcut", "show", "gemma-2b"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        child.stdout.close()
        assert child.stderr.read() == ""


def test_help_imports_no_framework_and_nothing_heavy():
    code = (
        "import sys, runpy, json\n"
        "sys.argv = ['gemcut', '--help']\n"
        "try: runpy.run_module('gemcut', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = ['keras', 'jax', 'torch', 'tensorflow', 'sentencepiece', 'jinja2', 'gemcut.generate']\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(child.stdout.splitlines()[-1]) == []
