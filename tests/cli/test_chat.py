"""`gemcut chat`: turns, commands, interruption, and models that cannot chat."""

import json

import pytest

from gemcut.errors import ContextLengthError


@pytest.fixture
def model(fake, tmp_path, monkeypatch):
    """The fake, under a path that exists."""
    (tmp_path / "m").mkdir()
    monkeypatch.chdir(tmp_path)
    return fake


def asked(model):
    """The messages of each call, as "role: content" lines."""
    return [[f"{message['role']}: {message['content']}" for message in call[1]] for call in model.calls]


def test_history_grows_turn_by_turn(model, invoke):
    result = invoke("chat", "./m", stdin="one\ntwo\n/exit\nthree\n")
    assert result.exit_code == 0
    assert result.stdout == "Mercury é\nMercury é\n"
    assert asked(model) == [["user: one"], ["user: one", "assistant: Mercury é", "user: two"]]


def test_the_models_own_sampling_holds_and_is_printed(model, invoke):
    result = invoke("chat", "./m", "--temperature", "0.5", "--max-tokens", "9", stdin="one\n")
    assert model.calls[0][2] == {
        "system": None, "max_tokens": 9, "stop": (), "temperature": 0.5, "top_k": 64, "top_p": 0.95,
    }  # fmt: skip
    assert "sampling: temperature 0.5, top_k 64, top_p 0.95" in result.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        pytest.param(["--temperature", "0"], "greedy", id="greedy"),
        pytest.param(
            ["--temperature", "0", "--repetition-penalty", "1.1"], "greedy, repetition_penalty 1.1", id="penalty"
        ),
    ],
)
def test_temperature_0_is_called_greedy(model, invoke, flags, said):
    assert f"sampling: {said}. /help" in invoke("chat", "./m", *flags, stdin="/exit\n").stderr


def test_quiet_prints_answers_only(model, invoke):
    result = invoke("chat", "./m", "--quiet", stdin="one\n")
    assert (result.stdout, result.stderr) == ("Mercury é\n", "")


def test_json_prints_one_line_for_each_answer(model, invoke):
    result = invoke("chat", "./m", "--json", stdin="one\ntwo\n")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["text"] for line in lines] == ["Mercury é", "Mercury é"]
    assert lines[0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        pytest.param("one\\\ntwo\n", "one\ntwo", id="backslash"),
        pytest.param('"""\none\n\ntwo\n"""\n', "one\n\ntwo", id="quotes-alone"),
        pytest.param('"""one\ntwo"""\n', "one\ntwo", id="quotes-with-text"),
        pytest.param('"""one"""\n', "one", id="quotes-on-one-line"),
        pytest.param("//etc is a folder\n", "/etc is a folder", id="slash"),
        pytest.param("  \n\none\n", "one", id="empty-lines"),
    ],
)
def test_messages_of_several_lines(model, invoke, typed, expected):
    invoke("chat", "./m", stdin=typed)
    assert asked(model) == [[f"user: {expected}"]]


def test_reset_undo_and_system(model, invoke):
    typed = "one\n/undo\ntwo\n/reset\nthree\n/system Be brief.\nfour\n/system\nfive\n/undo\n/undo\n/help\n"
    result = invoke("chat", "./m", "--system", "First.", stdin=typed)
    assert asked(model) == [["user: one"], ["user: two"], ["user: three"], ["user: four"], ["user: five"]]
    assert [call[2]["system"] for call in model.calls] == ["First."] * 3 + ["Be brief.", None]
    assert "There is nothing to take back." in result.stderr
    assert "/save FILE" in result.stderr


def test_conversation_is_saved_and_loaded(model, invoke, tmp_path):
    invoke("chat", "./m", "--system", "Brief.", stdin="one\n/save talk.json\n")
    saved = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))
    assert saved["system"] == "Brief."
    assert saved["messages"][1] == {"role": "assistant", "content": "Mercury é"}
    model.calls.clear()
    invoke("chat", "./m", stdin="/load talk.json\ntwo\n")
    assert asked(model) == [["user: one", "assistant: Mercury é", "user: two"]]
    assert model.calls[0][2]["system"] == "Brief."


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        pytest.param("/nonsense", "/nonsense: no such command. /help lists them", id="unknown"),
        pytest.param("/save", "/save needs the name of a file: /save FILE", id="save-without-file"),
        pytest.param("/load", "/load needs the name of a file: /load FILE", id="load-without-file"),
        pytest.param("/load none.json", "none.json: no such file. Check the path", id="load-missing"),
        pytest.param("/load bad.json", 'bad.json: not a conversation, expected {"messages"', id="load-bad"),
        pytest.param("/load role.json", "role.json: not a conversation", id="load-bad-role"),
        pytest.param("/load system.json", "system.json: system is int, expected text or null", id="load-bad-system"),
        pytest.param("/save no/such/folder.json", "folder.json: could not be written", id="save-nowhere"),
    ],
)
def test_bad_commands_end_the_turn_not_the_conversation(model, invoke, tmp_path, typed, message):
    (tmp_path / "bad.json").write_text("[1]")
    (tmp_path / "role.json").write_text('{"messages": [{"role": "king", "content": "x"}]}')
    (tmp_path / "system.json").write_text('{"system": 3, "messages": []}')
    result = invoke("chat", "./m", stdin=f"{typed}\none\n")
    assert result.exit_code == 0
    assert message in result.stderr
    assert asked(model) == [["user: one"]]


def test_error_takes_the_question_back(model, invoke):
    answer = model.pieces
    model.pieces = [ContextLengthError("prompt: it has 9 tokens, but the context is 8.")]
    original = model.chat_stream

    def once(messages, **options):
        pieces = original(messages, **options)
        yield from pieces
        model.pieces = answer

    model.chat_stream = once
    result = invoke("chat", "./m", stdin="long\n")
    assert "prompt: it has 9 tokens" in result.stderr
    model.pieces = answer
    result = invoke("chat", "./m", stdin="short\n")
    assert asked(model)[-1] == ["user: short"]


def test_interrupt_stops_the_answer_and_keeps_it(model, invoke):
    original = model.chat_stream

    def interrupted_first(messages, **options):
        model.pieces = ["Mer", KeyboardInterrupt()] if not model.calls else ["done"]
        return original(messages, **options)

    model.chat_stream = interrupted_first
    result = invoke("chat", "./m", stdin="one\ntwo\n")
    assert result.exit_code == 0
    assert result.stdout == "Mer\ndone\n"
    assert asked(model)[1] == ["user: one", "assistant: Mer", "user: two"]


def test_interrupt_before_the_first_word_takes_the_question_back(model, invoke):
    original = model.chat_stream

    def interrupted_first(messages, **options):
        model.pieces = [KeyboardInterrupt()] if not model.calls else ["done"]
        return original(messages, **options)

    model.chat_stream = interrupted_first
    invoke("chat", "./m", stdin="one\ntwo\n")
    assert asked(model)[1] == ["user: two"]


def test_interrupt_at_the_prompt_leaves(model, invoke, monkeypatch):
    def interrupt(prompt: str = "> ") -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("gemcut.cli.chat.read_message", interrupt)
    assert invoke("chat", "./m").exit_code == 130


def test_base_model_is_told_and_run_is_offered(model, invoke):
    model.is_instruction_tuned = False
    result = invoke("chat", "./m", stdin="one\n")
    assert result.exit_code == 2
    assert "./m: this is a base model; it continues text" in result.stderr
    assert 'Use: gemcut run ./m "TEXT"' in result.stderr


def test_default_model_says_how_to_get_one(fake, invoke, monkeypatch):
    monkeypatch.setattr("gemcut.hub.starter._package_folder", lambda name: None)
    result = invoke("chat")
    assert result.exit_code == 4
    assert "starter-it: its adapter is not installed" in result.stderr
    assert "gemcut chat PATH" in result.stderr
    assert fake.loads == []


def test_top_k_without_any_temperature_is_refused(model, invoke):
    model.defaults = {}
    result = invoke("chat", "./m", "--top-p", "0.9", stdin="one\n")
    assert result.exit_code == 2
    assert "--top-p 0.9 has no effect at temperature 0" in result.stderr
