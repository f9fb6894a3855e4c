"""`gemcut run`: where the prompt comes from, what goes where, and how it ends."""

import json
import sys
from pathlib import Path

import pytest

from gemcut.cli.output import Answer, write_answer
from gemcut.errors import CheckpointError
from gemcut.interfaces import Completion, Timings


def test_answer_goes_to_standard_output_and_the_rest_to_standard_error(fake, invoke):
    result = invoke("run", "starter", "The planets are")
    assert result.exit_code == 0
    assert result.stdout == "Mercury é\n"
    assert "starter: engine jax (auto), dtype float32 (auto), device cpu, loaded in 0.5 s" in result.stderr
    assert result.stderr.endswith("prompt 7 tokens; answer 3 tokens (stop)\n")
    assert fake.calls == [("stream", "The planets are", {"max_tokens": 64, "stop": ()})]
    assert fake.closed


def test_options_reach_the_library_under_their_names(fake, invoke):
    flags = "--max-tokens 5 --temperature 0.5 --top-k 3 --top-p 0.9 --min-p 0.1 --repetition-penalty 1.1 --seed 7"
    load_flags = "--engine torch --dtype bfloat16 --threads 1 --context 99 --adapter some/adapter"
    result = invoke("run", "starter", "x", *flags.split(), *load_flags.split(), "--stop", "a b", "--stop", "c")
    options = {"engine": "torch", "dtype": "bfloat16", "threads": 1, "context": 99, "adapter": Path("some/adapter")}
    assert fake.loads == [("starter", options)]
    assert "adapter some/adapter" in result.stderr
    assert fake.calls[0][2] == {
        "max_tokens": 5,
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "seed": 7,
        "stop": ["a b", "c"],
    }


def test_quiet_prints_the_answer_only(fake, invoke):
    result = invoke("run", "starter", "x", "--quiet")
    assert (result.stdout, result.stderr) == ("Mercury é\n", "")


def test_json_is_one_document_with_the_keys_of_the_contract(fake, invoke):
    result = invoke("run", "starter", "x", "--json")
    assert json.loads(result.stdout) == {
        "text": "Mercury é",
        "token_ids": [0, 1, 2],
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        "engine": "jax",
    }


@pytest.mark.parametrize(
    ("content", "prompt"),
    [
        pytest.param("two\nlines\n", "two\nlines", id="one-newline-goes"),
        pytest.param("x\n\n", "x\n", id="only-one"),
        pytest.param("x\r\n", "x", id="windows"),
        pytest.param(" x ", " x ", id="spaces-stay"),
    ],
)
@pytest.mark.parametrize("source", ["stdin", "file"])
def test_prompt_from_standard_input_or_file(fake, invoke, tmp_path, source, content, prompt):
    if source == "stdin":
        result = invoke("run", "starter", stdin=content)
    else:
        (tmp_path / "prompt.txt").write_bytes(content.encode())
        result = invoke("run", "starter", "--file", str(tmp_path / "prompt.txt"))
    assert result.exit_code == 0
    assert fake.calls[0][1] == prompt


def test_chat_puts_the_prompt_into_the_template_and_stays_greedy(fake, invoke):
    invoke("run", "starter", "Hi", "--chat", "--system", "Be brief.")
    assert fake.calls == [
        ("chat_prompt", [{"role": "user", "content": "Hi"}], {"system": "Be brief."}),
        ("stream", [2, 105], {"max_tokens": 64, "stop": ()}),
    ]


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "message"),
    [
        pytest.param(["x", "--system", "s"], "", 2, "--system is given without --chat", id="system-without-chat"),
        pytest.param(["x", "--file", "p"], "", 2, "PROMPT and --file are both given. Give one", id="two-prompts"),
        pytest.param([""], "", 2, "PROMPT is empty, expected the text to continue", id="empty-prompt"),
        pytest.param([], "\n", 2, "standard input is empty, expected the text", id="empty-input"),
        pytest.param([], b"ab\xff", 3, "standard input: byte 2 is not UTF-8, expected text in UTF-8", id="not-utf-8"),
        pytest.param(["--file", "no/such"], "", 4, "--file no/such: no such file. Check the path", id="no-file"),
        pytest.param(["--file", "/"], "", 3, "--file /: cannot be read (Is a directory)", id="file-is-folder"),
        pytest.param(["x", "--top-k", "40"], "", 2, "--top-k 40 has no effect at temperature 0", id="greedy-top-k"),
        pytest.param(
            ["x", "--temperature", "0", "--min-p", "0.1"], "", 2, "--min-p 0.1 has no effect", id="greedy-min-p"
        ),
        pytest.param(["x", "--max-tokens", "0"], "", 2, "Invalid value for '--max-tokens'", id="max-tokens"),
        pytest.param(["x", "--engine", "gpu"], "", 2, "Invalid value for '--engine'", id="engine"),
        pytest.param(["x", "--no-such"], "", 2, "No such option", id="unknown-option"),
    ],
)
def test_wrong_use_is_told_without_traceback(fake, invoke, arguments, stdin, code, message):
    result = invoke("run", "starter", *arguments, stdin=stdin)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_interrupt_keeps_what_was_printed(fake, invoke):
    fake.pieces = ["Mer", KeyboardInterrupt()]
    result = invoke("run", "starter", "x")
    assert (result.exit_code, result.stdout) == (130, "Mer\n")
    assert "answer 1 tokens, interrupted" in result.stderr


def test_interrupt_with_json_says_so(fake, invoke):
    fake.pieces = ["Mer", KeyboardInterrupt()]
    result = invoke("run", "starter", "x", "--json")
    assert result.exit_code == 130
    assert json.loads(result.stdout)["finish_reason"] == "interrupted"


@pytest.mark.parametrize(("is_terminal", "shown"), [(True, "a\ufffd[2Jb\n\tc\ufffd"), (False, "a\x1b[2Jb\n\tc\x9b")])
def test_a_terminal_gets_no_control_characters_of_the_models(monkeypatch, capsys, is_terminal, shown):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    write_answer("a\x1b[2Jb\n\tc\x9b")
    assert capsys.readouterr().out == shown


def test_speed_is_told_in_one_line():
    timings = Timings(
        prefill_tokens=600, prefill_seconds=2.0, decode_tokens=63, decode_seconds=4.0, compile_seconds=5.25
    )
    completion = Completion("x", [1], "length", {"prompt_tokens": 1600, "completion_tokens": 64}, timings=timings)
    assert Answer("x", [1], completion).speed() == (
        "prompt 1,600 tokens, 300.0 tok/s; answer 64 tokens, 15.8 tok/s (length); compiling 5.2 s"
    )


def test_interrupted_completion_ends_with_its_exit_code(fake, invoke):
    fake.finish_reason = "interrupted"
    assert invoke("run", "starter", "x").exit_code == 130


def test_error_while_generating_is_told_after_what_was_printed(fake, invoke):
    fake.pieces = ["Mer", CheckpointError("model.gguf: tensor is damaged.")]
    result = invoke("run", "starter", "x")
    assert (result.exit_code, result.stdout) == (3, "Mer")
    assert result.stderr.endswith("gemcut: model.gguf: tensor is damaged.\n")
