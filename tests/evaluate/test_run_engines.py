"""Runs on a real engine: the same numbers whatever is asked side by side, and after kill -9."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time

import pytest
import slow_run
from runner_models import ROWS, write_tasks

import gemcut
from gemcut.evaluate import asker as asker_module
from gemcut.evaluate import run
from gemcut.evaluate.asker import Asker, Question
from gemcut.evaluate.encoding import Encoder
from gemcut.evaluate.run_folder import read_run
from gemcut.evaluate.task import ChoiceScore, GenerateRequest, RollingRequest, ScoreRequest

pytestmark = pytest.mark.backend
TOLERANCE = 3e-5
WAIT_SECONDS = 300


@pytest.fixture(scope="module")
def model_path(write_tiny_model, tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"), max_position_embeddings=400)


@pytest.fixture(scope="module")
def model(model_path, engine):
    model = gemcut.load(model_path, engine=engine, dtype="float32")
    yield model
    model.close()


@pytest.fixture
def requests():
    before = "".join(f"Question: {row['question']}\nAnswer: {row['choices'][0]}\n\n" for row in ROWS[:4])
    questions = [f"{before}Question: {row['question']}\nAnswer:" for row in ROWS]
    return before, [
        *(ScoreRequest(question, f" {end}") for question in questions for end in ("one", "two", "three more")),
        *(GenerateRequest(question, ("\n",), 7) for question in questions),
    ]


def asked(model, requests, before, numbers=None):
    encoder = Encoder(model)
    questions = [Question(encoder.encode(each, "x", before), index, 0, "x") for index, each in enumerate(requests)]
    asker = Asker(model)
    found = {}
    for batch in asker.plan(questions):
        wanted = [number for number in batch.numbers if numbers is None or number in numbers]
        found |= {number: answer for pairs in asker.ask(questions, wanted) for number, answer in pairs}
    return [found.get(number) for number in range(len(requests))]


def test_answers_do_not_depend_on_what_is_asked_beside_them(model, requests, monkeypatch, engine):
    before, requests = requests
    together = asked(model, requests, before)
    monkeypatch.setattr(asker_module, "CALL_ROWS", 5)
    monkeypatch.setattr(asker_module, "RUNNING", 3)
    few = asked(model, requests, before, set(range(0, len(requests), 3)))
    for number in range(0, len(requests), 3):
        one, other = together[number], few[number]
        if isinstance(one, ChoiceScore):
            assert one.logprob == (other.logprob if engine == "native" else pytest.approx(other.logprob, abs=TOLERANCE))
            assert (one.num_tokens, one.is_greedy) == (other.num_tokens, other.is_greedy)
        else:
            assert one == other


def test_answers_are_those_of_the_model_s_own_calls(model, requests):
    before, requests = requests
    for request, answer in list(zip(requests, asked(model, requests, before), strict=True))[::7]:
        if isinstance(request, ScoreRequest):
            expected = model.score(request.context, request.continuation)
            assert answer.logprob == pytest.approx(expected.logprob, abs=TOLERANCE)
            assert answer.num_tokens == len(expected.token_ids)
        else:
            assert answer == model.generate(request.prompt, max_tokens=7, stop=["\n"]).text


def test_a_long_text_is_scored_in_windows(model):
    text = " ".join(row["question"] for row in ROWS) * 3
    [answer] = asked(model, [RollingRequest(text)], "")
    token_ids = model.tokenizer.encode(text)
    assert answer.num_tokens == len(token_ids) - 1 > model.context
    whole = model.engine_model.score([token_ids[: model.context]])[0]
    first = Encoder(model).encode(RollingRequest(text), "x").windows[0]
    assert first[0].tolist() == token_ids[: model.context]
    assert answer.logprob < float(whole.sum())


def test_what_all_prompts_begin_with_is_computed_once(model, requests, engine, monkeypatch):
    """By the engine's own count of the prompts' tokens that were known."""
    before, requests = requests
    scheduler, counters = model.new_scheduler, []

    def noted(**how):
        counters.append(scheduler(**how))
        return counters[-1]

    monkeypatch.setattr(model, "new_scheduler", noted)
    prompts = [request for request in requests if isinstance(request, GenerateRequest)]
    asked(model, prompts, before)
    shared = len(model.tokenizer.encode(before))
    reused = sum(each.counters.reused_tokens for each in counters)
    if engine == "native":
        assert reused >= (len(prompts) - 1) * shared
    else:
        computed = sum(each.counters.prompt_tokens for each in counters)
        assert computed < len(prompts) * 20 + 2 * shared


@contextlib.contextmanager
def begun_run(model_path, tasks, output, engine, seconds):
    """A run in a process of its own; it is killed where this is left."""
    command = [sys.executable, slow_run.__file__, str(model_path), engine, str(output), str(seconds), *map(str, tasks)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_lines(process, path, count):
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if path.is_file() and path.read_bytes().count(b"\n") > count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{path}: not {count} lines")


@pytest.mark.parametrize("task", ["sums", "written"])
def test_kill_9_and_the_same_command_give_the_same_numbers(model_path, model, tmp_path, engine, task, monkeypatch):
    if engine != "native" and task == "sums":
        pytest.skip("one kill is enough for engines that take long to load")
    rows = [
        {**row, "id": f"{row['id']}-{copy}", "question": f"{row['question']} {copy}"}
        for copy in range(2)
        for row in ROWS
    ]
    tasks = [path for path in write_tasks(tmp_path / "tasks", rows) if path.stem == task]
    path = tmp_path / "run" / "items" / f"{task}.jsonl"
    with begun_run(model_path, tasks, tmp_path / "run", engine, 0.3) as process:
        wait_for_lines(process, path, 12)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    known = path.read_bytes().count(b"\n") - 1
    assert 12 <= known < len(rows)
    assert not (tmp_path / "run" / "results.json").exists()
    with begun_run(model_path, tasks, tmp_path / "run", engine, 0) as process:
        output, _ = process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode == 0, output
    slow_run.make_small_steps(monkeypatch.setattr)
    run.evaluate(model, list(map(str, tasks)), output=tmp_path / "whole", shots=2)
    assert path.read_bytes() == (tmp_path / "whole" / "items" / path.name).read_bytes()
    found, expected = (read_run(tmp_path / name).facts["tasks"][task] for name in ("run", "whole"))
    assert found["metrics"] == expected["metrics"]
    assert found["num_computed"] == len(rows) - known
    assert json.loads(output.splitlines()[-1]) == found["num_computed"]
