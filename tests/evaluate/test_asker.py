"""Requests are asked in an order in which neighbours share most, in calls that fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from runner_models import number_model

from gemcut.errors import BackendError, ContextLengthError, GemcutError
from gemcut.evaluate import asker as asker_module
from gemcut.evaluate.asker import Asker, Question, num_shared
from gemcut.evaluate.encoding import EncodedPrompt, EncodedScore, EncodedText, Encoder
from gemcut.evaluate.task import ChoiceScore, RollingRequest, RollingScore, ScoreRequest


def ids(*token_ids):
    return np.array(token_ids, np.int32)


def score(context, continuation, item=0, group=0):
    return Question(EncodedScore(ids(*context), ids(*continuation)), item, group, f"task, item {item}")


def prompt(token_ids, item=0, group=0, stop=(), max_tokens=4):
    return Question(EncodedPrompt(ids(*token_ids), stop, max_tokens), item, group, f"task, item {item}")


def continuous(asker):
    """As if the engine took texts of any length side by side."""
    asker._is_continuous = asker.answers_alone = True
    return asker


def answers_of(asker, questions):
    batches = asker.plan(questions)
    found = [pair for batch in batches for pairs in asker.ask(questions, batch.numbers) for pair in pairs]
    assert sorted(number for number, _ in found) == list(range(len(questions)))
    return dict(found)


def units_in_order(batches, questions):
    return list(dict.fromkeys(questions[number].unit for batch in batches for number in batch.numbers))


def test_groups_stay_together_and_lengths_are_near():
    lengths = [9, 3, 7, 4, 8, 5]
    questions = [score(range(2, 2 + length), [1], item, item % 2) for item, length in enumerate(lengths)]
    batches = Asker(number_model()).plan(questions)
    assert units_in_order(batches, questions) == [2, 4, 0, 1, 3, 5]


def test_an_engine_without_padding_gets_them_by_what_they_begin_with():
    contexts = [[2, 300, 5], [2, 7, 7, 7], [2, 300, 4], [2, 7, 7], [2, 9]]
    questions = [score(context, [1], item) for item, context in enumerate(contexts)]
    batches = continuous(Asker(number_model())).plan(questions)
    assert units_in_order(batches, questions) == [3, 1, 4, 2, 0]


def test_costs_leave_out_what_the_text_before_has():
    scores = [score([2, 3, 4, 5], [7, 8]), score([2, 3, 4, 5], [7, 9, 9])]
    prompts = [prompt([2, 3, 4, 5, 7], 0, max_tokens=3), prompt([2, 3, 4, 5, 8], 1, max_tokens=3)]
    for questions, costs in ((scores, [6, 2]), (prompts, [5 + 3, 1 + 3])):
        batches = continuous(Asker(number_model())).plan(questions)
        assert [cost for batch in batches for cost in batch.costs] == costs


def test_the_plan_is_the_same_whatever_is_known_and_items_stay_whole():
    questions = [score([2, *range(item % 9)], [1] * (1 + each), item) for item in range(50) for each in range(3)]
    asker = Asker(number_model())
    batches = asker.plan(questions)
    assert batches == asker.plan(questions)
    assert max(len(batch.numbers) for batch in batches) == 30
    for batch in batches:
        items = [questions[number].unit for number in batch.numbers]
        assert all(items.count(item) == 3 for item in items)


def test_calls_hold_about_as_many_tokens_as_they_may():
    questions = [score(range(2, 22), [item], item) for item in range(30)]
    batches = continuous(Asker(number_model(), call_tokens=24)).plan(questions)
    assert [len(batch.numbers) for batch in batches] == [4, 24, 2]
    assert all(sum(batch.costs) <= 24 for batch in batches)


def test_calls_of_large_models_are_smaller(monkeypatch):
    sizes = []
    for count in (268_098_176, 2_506_172_416, 8_537_680_896):
        monkeypatch.setattr(asker_module, "num_parameters", lambda _, count=count: count)
        sizes.append(Asker(number_model())._call_tokens)
    assert sizes == [2048, 548, 512]


def test_little_memory_makes_small_calls(monkeypatch):
    questions = [score(range(2, 50), [item], item) for item in range(12)]
    row_bytes = 2 * 2 * 4 * 8 * 49
    monkeypatch.setattr(asker_module, "engine_facts", lambda: {"available_memory_bytes": 5.1 * row_bytes / 0.4})
    monkeypatch.setattr(asker_module, "is_built", lambda: True)
    assert [len(batch.numbers) for batch in Asker(number_model()).plan(questions)] == [5, 5, 2]
    monkeypatch.setattr(asker_module, "engine_facts", lambda: {"available_memory_bytes": 0})
    assert [len(batch.numbers) for batch in Asker(number_model()).plan(questions)] == [1] * 12


@pytest.mark.parametrize("is_continuous", [False, True], ids=["padded", "continuous"])
def test_kinds_are_not_asked_in_one_call(is_continuous):
    questions = [(score([2, 9], [item], item) if item % 3 else prompt([2, 9, item], item)) for item in range(12)]
    asker = continuous(Asker(number_model())) if is_continuous else Asker(number_model())
    for batch in asker.plan(questions):
        assert len({type(questions[number].encoded) for number in batch.numbers}) == 1


def test_an_accelerator_s_memory_counts_where_it_tells(monkeypatch):
    monkeypatch.setattr(asker_module, "engine_facts", lambda: {"available_memory_bytes": 7})
    monkeypatch.setattr(asker_module, "is_built", lambda: True)
    engine = number_model().engine_model
    assert asker_module._free_bytes(engine) == 7
    engine.device = "cuda"
    assert asker_module._free_bytes(engine) == asker_module._UNKNOWN_MEMORY
    engine.free_bytes = lambda: 99
    assert asker_module._free_bytes(engine) == 99


def test_nothing_asked_is_nothing_planned():
    assert Asker(number_model()).plan([]) == []


def test_scores_are_sums_over_the_continuation():
    model = number_model()
    questions = [score([2, 30, 31], [40, 41], 0), score([2, 30, 31], [42], 0), score([2, 33], [42, 43, 44], 1)]
    answers = answers_of(Asker(model), questions)
    for number, question in enumerate(questions):
        row, count = question.encoded.token_ids.tolist(), len(question.encoded.continuation)
        [expected] = model.engine_model.score_continuations([row], [count])
        total = float(expected.logprobs.sum(dtype=np.float64))
        assert answers[number] == ChoiceScore(total, count, expected.is_greedy)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=["nan", "inf", "minus-inf"])
def test_a_log_probability_that_is_no_number_names_the_item(value):
    model = number_model()
    model.engine_model.broken = {77: value}
    message = (
        f"task, item 5: the model's log-probability is {value}, expected a finite number. Its weights or its engine"
    )
    for question in (score([2, 30], [77], 5), prompt([2, 77], 5)):
        with pytest.raises(BackendError, match=message):
            answers_of(Asker(model), [score([2], [3], 1), question])


def test_a_long_text_is_the_sum_of_its_windows():
    model = number_model(context=10)
    encoded = Encoder(model).encode(RollingRequest("a b c d e f g h i j k l m n o p"), "x")
    assert isinstance(encoded, EncodedText)
    assert len(encoded.windows) > 2
    [answer] = answers_of(Asker(model), [Question(encoded, 0, 0, "x")]).values()
    found = [model.engine_model.score_continuations([row.tolist()], [count])[0] for row, count in encoded.windows]
    assert answer == RollingScore(sum(float(each.logprobs.sum(dtype=np.float64)) for each in found), encoded.num_tokens)


def test_written_answers_are_those_of_generate():
    model = number_model()
    questions = [prompt([2, 30 + item], item, stop=("e",), max_tokens=5) for item in range(40)]
    answers = answers_of(Asker(model), questions)
    for number, question in enumerate(questions):
        expected = model.generate(question.encoded.token_ids.tolist(), max_tokens=5, stop=["e"])
        assert answers[number] == expected.text
    assert len(set(answers.values())) > 20


def test_errors_of_the_engine_name_the_item_where_it_is_one_s():
    model = number_model()
    model.engine_model.fails = [BackendError("[engine] no memory")]
    with pytest.raises(BackendError, match=r"task, item 3: \[engine\] no memory"):
        answers_of(Asker(model), [prompt([2, 30], 3)])
    with pytest.raises(ContextLengthError, match="task, item 4: prompt: it has 130 tokens, but the context is 120"):
        answers_of(Asker(model), [prompt(range(130), 4)])
    model.engine_model.fails = [GemcutError("broken")]
    with pytest.raises(GemcutError, match="broken"):
        answers_of(Asker(model), [score([2], [3])])
    model.engine_model.fails = [ZeroDivisionError("ours")]
    with pytest.raises(ZeroDivisionError, match="ours"):
        answers_of(Asker(model), [prompt([2, 30], 3)])


def test_requests_of_all_kinds_side_by_side():
    model = number_model()
    text = Encoder(model).encode(RollingRequest("a b"), "x")
    questions = [score([2], [3], 0), prompt([2, 30], 0), Question(text, 0, 0, "x"), score([2], [4], 1)]
    kinds = [type(answer) for _, answer in sorted(answers_of(Asker(model), questions).items())]
    assert kinds == [ChoiceScore, str, RollingScore, ChoiceScore]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([], [], 0), ([1, 2], [1, 2], 2), ([1, 2], [1, 2, 3], 2), ([1, 2, 3], [1, 5, 3], 1), ([4], [1], 0)],
    ids=["nothing", "equal", "beginning", "middle", "first"],
)
def test_common_beginnings(one, other, expected):
    assert num_shared(ids(*one), ids(*other)) == num_shared(ids(*other), ids(*one)) == expected


def test_a_score_request_is_asked_as_it_was_encoded():
    model = number_model()
    encoded = Encoder(model).encode(ScoreRequest("Answer:", " two"), "x")
    answers_of(Asker(model), [Question(encoded, 0, 0, "x")])
    assert model.engine_model.scored == [[encoded.token_ids.tolist()]]
