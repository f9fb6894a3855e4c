"""A run asks what is not known, writes down what came, and goes on where it was."""

from __future__ import annotations

import fcntl
import json
import os

import pytest
from runner_models import ROWS, number_model, write_tasks

import gemcut
from gemcut.errors import BackendError, DataError, GemcutError, NotFoundError, UsageError
from gemcut.evaluate import run as run_module
from gemcut.evaluate.perplexity import perplexity_task
from gemcut.evaluate.run import evaluate, known_folders, run_folder
from gemcut.evaluate.run_folder import read_run
from gemcut.evaluate.suites import Asked, load_suite, suite_names
from gemcut.evaluate.task import GenerateRequest, ScoreRequest
from gemcut.evaluate.task_file import load_task


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GEMCUT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tasks(tmp_path):
    return [str(path) for path in write_tasks(tmp_path / "tasks")]


def run(tasks, tmp_path, model=None, **how):
    return evaluate(model or number_model(), tasks, output=tmp_path / "run", **{"shots": 2, **how})


def lines_of(tmp_path, task="sums", folder="run"):
    return [
        json.loads(line) for line in (tmp_path / folder / "items" / f"{task}.jsonl").read_text("utf-8").splitlines()
    ]


def without_times(folder):
    facts = dict(read_run(folder).facts)
    for task in facts["tasks"].values():
        task["notes"] = [note for note in task["notes"] if "had been answered before" not in note]
        for key in ("seconds", "num_computed"):
            del task[key]
    del facts["date"]
    return facts


def test_results_say_what_was_asked_and_what_came_out(tasks, tmp_path):
    model = number_model()
    results = run(tasks, tmp_path, model, seed=3, command="gemcut eval tiny", suite="own")
    facts = read_run(tmp_path / "run").facts
    assert facts == json.loads(json.dumps(results.facts))
    assert (facts["command"], facts["suite"], facts["gemcut"]) == ("gemcut eval tiny", "own", gemcut.__version__)
    assert facts["model"]["name"] == "tiny"
    assert facts["model"]["weights_sha256"].startswith("logits:")
    assert {"engine", "dtype", "device", "threads", "tokenizer_sha256", "config", "context"} <= set(facts["model"])
    assert facts["machine"]["cores"] >= 1
    assert {"gemcut", "python"} <= set(facts["versions"])
    sums, written = facts["tasks"]["sums"], facts["tasks"]["written"]
    assert (sums["title"], sums["kind"], sums["num_shots"], sums["seed"]) == ("Sums", "choices", 2, 3)
    assert (sums["num_items"], sums["num_total"], sums["num_computed"], sums["limit"]) == (24, 24, 24, None)
    assert (sums["primary_metric"], sums["bos_check"]) == ("acc_norm", "once")
    assert sums["data"]["file"] == "rows.jsonl"
    assert len(sums["data"]["sha256"]) == 64
    assert list(written["metrics"]) == ["exact_match"]
    shares = [line["metrics"]["acc"] for line in lines_of(tmp_path)[1:]]
    assert sums["metrics"]["acc"]["value"] == results.figure("sums", "acc") == pytest.approx(sum(shares) / 24)
    assert results.tasks == ("sums", "written")


def test_the_first_prompts_are_told_token_for_token(tasks, tmp_path):
    model = number_model()
    run(tasks, tmp_path, model)
    for task in read_run(tmp_path / "run").facts["tasks"].values():
        assert [each["item_id"] for each in task["first_prompts"]] == ["0", "1", "2"]
        for prompt in task["first_prompts"]:
            assert prompt["text"].startswith("<bos>Question: ")
            assert prompt["token_ids"] == model.tokenizer.encode(prompt["text"].removeprefix("<bos>"))


def test_items_are_in_the_order_of_the_file_with_their_answers(tasks, tmp_path):
    run(tasks, tmp_path)
    header, *items = lines_of(tmp_path)
    assert (header["task"], header["settings"]["num_shots"], header["model"]["engine"]) == ("sums", 2, "numbers")
    assert [item["item_id"] for item in items] == [str(number) for number in range(24)]
    assert all(len(item["answers"]) == len(row["choices"]) for item, row in zip(items, ROWS, strict=True))
    assert set(items[0]) == {"item_id", "subset", "metrics", "answers", "key"}
    _, *written = lines_of(tmp_path, "written")
    assert all(isinstance(item["answers"][0], str) for item in written)


def test_samples_are_the_prompts_and_what_is_right(tasks, tmp_path):
    run(tasks, tmp_path, log_samples=True, shots=0)
    item = lines_of(tmp_path)[1]
    assert item["prompts"][0] == {"context": "Question: 0 and 0 are\nAnswer:", "continuation": " one"}
    assert item["gold"] == [0]
    run(tasks, tmp_path, shots=0)
    assert "prompts" not in lines_of(tmp_path)[1]


@pytest.mark.parametrize("num_calls", [0, 1, 2])
def test_a_run_that_broke_goes_on_where_it_was(tasks, tmp_path, num_calls, monkeypatch):
    monkeypatch.setattr("gemcut.evaluate.asker.CALL_ROWS", 8)
    whole = evaluate(number_model(), tasks, output=tmp_path / "whole", shots=2)
    model = number_model()
    asked, broken = model.engine_model.score_continuations, []

    def breaks(*arguments):
        if len(model.engine_model.scored) == num_calls and not broken:
            broken.append(True)
            raise BackendError("pulled out")
        return asked(*arguments)

    model.engine_model.score_continuations = breaks
    with pytest.raises(BackendError, match="pulled out"):
        run(tasks, tmp_path, model)
    stored = lines_of(tmp_path)
    rows = [row for call in model.engine_model.scored for row in call]
    assert sum(len(item["answers"]) for item in stored[1:]) == len(rows)
    results = run(tasks, tmp_path, model)
    assert without_times(tmp_path / "run") == without_times(tmp_path / "whole")
    for task in ("sums", "written"):
        name = f"items/{task}.jsonl"
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    rows = [tuple(row) for call in model.engine_model.scored for row in call]
    assert len(set(rows)) == len(rows)
    assert results.facts["tasks"]["sums"]["num_computed"] == 24 - len(stored) + 1
    assert whole.facts["tasks"]["sums"]["num_computed"] == 24


def test_what_is_known_is_not_asked_again_and_scored_anew(tasks, tmp_path):
    model = number_model()
    first = run(tasks, tmp_path, model)
    num_calls = len(model.engine_model.scored), len(model.engine_model.prompts)
    task = load_task(tasks[0])
    again = run([task, tasks[1]], tmp_path, model)
    assert (len(model.engine_model.scored), len(model.engine_model.prompts)) == num_calls
    assert again.facts["tasks"] == first.facts["tasks"]
    path = tmp_path / "run" / "items" / "sums.jsonl"
    path.write_text(path.read_text("utf-8").replace('"acc": 1.0', '"acc": 0.0'), "utf-8")
    assert run(tasks, tmp_path, model).facts["tasks"] == first.facts["tasks"]


def test_fresh_asks_everything_anew(tasks, tmp_path):
    model = number_model()
    run(tasks, tmp_path, model)
    num_calls = len(model.engine_model.scored)
    run(tasks, tmp_path, model, fresh=True)
    assert len(model.engine_model.scored) == 2 * num_calls


def test_changed_rows_are_asked_anew_and_only_they(tasks, tmp_path):
    model = number_model()
    run(tasks[:1], tmp_path, model)
    rows = [dict(row, question="something else") if number == 9 else row for number, row in enumerate(ROWS)]
    write_tasks(tmp_path / "tasks", rows)
    model.engine_model.scored.clear()
    changed = number_model()
    results = run(tasks[:1], tmp_path, changed)
    assert results.facts["tasks"]["sums"]["num_computed"] == 1
    assert [line["item_id"] for line in lines_of(tmp_path)[1:]] == [str(number) for number in range(24)]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"shots": 3}, "num_shots was 2, now it is 3"),
        ({"limit": 4}, "limit was None, now it is 4"),
        ({"chat": True}, "chat was False, now it is True"),
        ({"seed": 5}, "seed was 0, now it is 5"),
        ({"shot_sampling": "lm-eval"}, "shot_sampling was fixed, now it is lm-eval"),
    ],
)
def test_another_setting_takes_nothing_over(tasks, tmp_path, how, message):
    run(tasks[:1], tmp_path)
    with pytest.raises(UsageError, match=f"holds answers of another run: {message}"):
        run(tasks[:1], tmp_path, **how)


def test_another_model_takes_nothing_over_whatever_it_is_called(tasks, tmp_path):
    run(tasks[:1], tmp_path)
    with pytest.raises(UsageError, match="holds results of another model: weights_sha256 was logits:"):
        run(tasks[:1], tmp_path, number_model(salt="other"))


def test_a_later_command_adds_its_tasks(tasks, tmp_path):
    run(tasks[:1], tmp_path)
    results = run(tasks[1:], tmp_path)
    assert list(results.facts["tasks"]) == ["sums", "written"]
    assert results.tasks == ("written",)


def test_answers_of_other_runs_count_if_model_and_question_are_the_same(tasks, tmp_path):
    model, other = number_model(), number_model(salt="other")
    evaluate(other, tasks, output=tmp_path / "others" / "other", shots=2)
    evaluate(model, tasks, output=tmp_path / "others" / "few", shots=2, limit=7)
    evaluate(model, tasks, output=tmp_path / "others" / "shots", shots=3)
    (tmp_path / "others" / "broken" / "items").mkdir(parents=True)
    (tmp_path / "others" / "broken" / "items" / "sums.jsonl").write_text("{")
    known = known_folders(tmp_path / "others" / "new")
    assert [each.name for each in known] == ["broken", "few", "other", "shots"]
    results = run(tasks, tmp_path, model, known_runs=known)
    expected = evaluate(number_model(), tasks, output=tmp_path / "alone", shots=2)
    for name, task in results.facts["tasks"].items():
        assert task["num_computed"] == 24 - 7
        assert "7 items were answered in another run of this very model." in task["notes"]
        assert task["metrics"] == expected.facts["tasks"][name]["metrics"]
    assert (tmp_path / "run" / "items" / "sums.jsonl").read_bytes() == (
        tmp_path / "alone" / "items" / "sums.jsonl"
    ).read_bytes()


def test_a_run_s_folder_follows_from_model_and_settings(tmp_path):
    model = number_model()
    how = {"shots": None, "limit": 5}
    folder = run_folder(model, how)
    assert folder == run_folder(number_model(), how)
    others = [
        run_folder(model, {"shots": 1, "limit": 5}), run_folder(number_model(salt="x"), how), run_folder(model, how, "smoke"),
        run_folder(number_model(context=60), how),
    ]  # fmt: skip
    assert len({folder, *others}) == 5
    assert (folder.parent.name, folder.name.rpartition("-")[0], others[2].name.rpartition("-")[0]) == (
        "gemcut-eval", "tiny", "tiny-smoke",
    )  # fmt: skip
    model.name = "/models/My Model:v2.gguf"
    assert run_folder(model, how).name.rpartition("-")[0] == "My-Model-v2"


def test_progress_is_told_by_items_and_tokens(tasks, tmp_path):
    told = []
    run(tasks, tmp_path, progress=told.append)
    assert {(each.task, each.number, each.num_tasks) for each in told} == {("sums", 1, 2), ("written", 2, 2)}
    asking = [each for each in told if each.stage == "asking" and each.task == "sums"]
    assert [each.num_done for each in asking] == sorted(each.num_done for each in asking)
    assert (asking[0].num_done, asking[-1].num_done, asking[-1].num_items) == (0, 24, 24)
    assert (asking[0].tokens_done, asking[-1].tokens_done) == (0, asking[-1].num_tokens)
    assert asking[-1].num_tokens > 24


def test_prompts_that_were_cut_are_counted(tasks, tmp_path):
    results = run(tasks[:1], tmp_path, number_model(context=40))
    [note] = [note for note in results.facts["tasks"]["sums"]["notes"] if "did not fit" in note]
    assert note.startswith("60 of 60 prompts did not fit the model's context of 40 tokens; up to ")
    assert note.endswith(" tokens were cut from their left, BOS stayed.")


def test_examples_of_each_item_s_own(tasks, tmp_path):
    model = number_model(context=200)
    run(tasks[:1], tmp_path, model, shot_sampling="lm-eval", shots=3)
    beginnings = {tuple(row[:20]) for call in model.engine_model.scored for row in call}
    assert len(beginnings) > 3


def test_a_chat_has_no_delimiter_before_the_answer(tasks, tmp_path):
    model = number_model(context=400)
    run(tasks[:1], tmp_path, model, chat=True, system="Be brief.", log_samples=True)
    assert lines_of(tmp_path)[1]["prompts"][0]["continuation"] == "one"
    text = read_run(tmp_path / "run").facts["tasks"]["sums"]["first_prompts"][0]["text"]
    assert text.startswith("<bos><start_of_turn>system\nBe brief.<end_of_turn>\n<start_of_turn>user\nQuestion: ")
    assert text.endswith("\nAnswer:<end_of_turn>\n<start_of_turn>model\none")


def test_a_broken_model_is_told_with_the_item_and_leaves_no_score(tasks, tmp_path):
    model = number_model()
    model.engine_model.broken = {model.tokenizer.encode("two")[-1]: float("nan")}
    with pytest.raises(
        BackendError, match=r"sums, item \d+: the model's log-probability is nan, expected a finite number"
    ):
        run(tasks, tmp_path, model, shots=0)
    assert not any(line["answers"] for line in lines_of(tmp_path)[1:] if "NaN" in json.dumps(line))


def test_a_long_text_goes_on_after_its_last_window(tmp_path, monkeypatch):
    monkeypatch.setattr("gemcut.evaluate.asker.CALL_ROWS", 1)
    path = tmp_path / "book.txt"
    path.write_text(" ".join(f"{number} and {number * 7} are {number * 8}." for number in range(30)))
    task = perplexity_task(path)
    expected = evaluate(number_model(context=30), [task], output=tmp_path / "whole")
    model = number_model(context=30)
    asked = model.engine_model.score_continuations

    def breaks(*arguments):
        if len(model.engine_model.scored) == 4:
            model.engine_model.score_continuations = asked
            raise KeyboardInterrupt
        return asked(*arguments)

    model.engine_model.score_continuations = breaks
    with pytest.raises(KeyboardInterrupt):
        run([task], tmp_path, model, shots=None)
    name = f"{task.name}.jsonl"
    assert len(lines_of(tmp_path, task.name)) == 1 + 4
    results = run([task], tmp_path, model, shots=None)
    rows = [tuple(row) for call in model.engine_model.scored for row in call]
    assert len(set(rows)) == len(rows) > 5
    assert (tmp_path / "run" / "items" / name).read_bytes() == (tmp_path / "whole" / "items" / name).read_bytes()
    assert results.facts["tasks"][task.name]["metrics"] == expected.facts["tasks"][task.name]["metrics"]
    with pytest.raises(UsageError, match="--shots 2: perplexity-book has 0 examples, expected as many"):
        run([task], tmp_path / "other", model, shots=2)


def test_settings_that_make_no_sense(tasks, tmp_path):
    for how, message in (
        ({"shots": -1}, "shots is -1 and limit is None, expected 0 and 1 at least"),
        ({"limit": 0}, "shots is 2 and limit is 0, expected 0 and 1 at least"),
        ({"shots": 9}, "--shots 9: sums has 5 examples, expected as many"),
    ):
        with pytest.raises(UsageError, match=message):
            run(tasks, tmp_path, **how)
    with pytest.raises(UsageError, match="tasks: there are none, expected at least one"):
        run([], tmp_path)
    with pytest.raises(UsageError, match="tasks: sums is there twice, expected each once"):
        run([tasks[0], tasks[0]], tmp_path)
    with pytest.raises(NotFoundError, match="task 'no-such'"):
        run(["no-such"], tmp_path)
    with pytest.raises(GemcutError, match=r"cannot be made \(.*\)\. Choose another --output"):
        evaluate(number_model(), tasks, output=tmp_path / "tasks" / "rows.jsonl" / "run")


def test_programs_are_not_run_unasked(tmp_path):
    with pytest.raises(UsageError, match=r"humaneval: scoring runs programs .* add --allow-code-execution"):
        run(["humaneval"], tmp_path)
    assert not (tmp_path / "run").exists()


def test_programs_run_where_they_are_allowed(tmp_path, monkeypatch):
    task = load_task("humaneval")
    [allowed] = [run_module._allowed(task)]
    assert allowed.scorer.is_allowed
    assert not task.scorer.is_allowed


def test_two_processes_do_not_write_into_one_folder(tasks, tmp_path):
    (tmp_path / "run").mkdir()
    handle = os.open(tmp_path / "run", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(UsageError, match="another process writes there. Wait for it, or choose another --output"):
        run(tasks, tmp_path)
    os.close(handle)
    run(tasks, tmp_path)


def test_damaged_results_are_told(tasks, tmp_path):
    run(tasks, tmp_path)
    (tmp_path / "run" / "results.json").write_text("{")
    with pytest.raises(DataError, match=r"results\.json"):
        run(tasks, tmp_path)


def test_tasks_may_have_settings_of_their_own(tasks, tmp_path):
    results = evaluate(number_model(), [Asked(tasks[0], shots=1, limit=5), tasks[1]], output=tmp_path / "run", limit=6)
    facts = results.facts["tasks"]
    assert [(facts[name]["num_shots"], facts[name]["num_items"]) for name in ("sums", "written")] == [(1, 6), (0, 6)]
    results = evaluate(number_model(), [Asked(tasks[0], shots=1, limit=5)], output=tmp_path / "other")
    assert results.facts["tasks"]["sums"]["num_items"] == 5


def test_suites_have_the_tasks_that_there_are():
    assert suite_names() == ("gemma1-report", "gemma3-card", "safety", "smoke")
    for name in suite_names():
        tasks = [load_task(each.task) for each in load_suite(name).tasks]
        assert len({task.name for task in tasks}) == len(tasks)
    assert len(load_suite("gemma1-report").tasks) == 18
    with pytest.raises(NotFoundError, match="--suite card: expected one of gemma1-report, gemma3-card, safety, smoke"):
        load_suite("card")


def test_requests_are_those_of_the_task(tasks, tmp_path):
    sums, written = (load_task(path) for path in tasks)
    assert isinstance(sums.requests(sums.items(run_module.DataFolders())[0], "")[0], ScoreRequest)
    assert isinstance(written.requests(written.items(run_module.DataFolders())[0], "")[0], GenerateRequest)
