"""From files to rows: templates, lengths, held-out samples, and errors that name every line they can."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from gemcut.errors import DataError, TemplateError, UsageError
from gemcut.tune.fitting import Fitting
from gemcut.tune.held_out import split
from gemcut.tune.recipe import Recipe
from gemcut.tune.samples import Sample
from gemcut.tune.training_data import ModelText, TrainingData, prepare

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}


def pair(prompt: str = "The", completion: str = " house.") -> dict[str, str]:
    return {"prompt": prompt, "completion": completion}


def sample(number: int, size: int = 6) -> Sample:
    return Sample(np.arange(size) + number, np.arange(size) > 2, f"data.jsonl, line {number}")


def data_of(model: ModelText, *paths: str, **changes: Any) -> TrainingData:
    return prepare(Recipe.from_dict({"model": "tiny", "data": list(paths), **changes}), model)


def test_plain_text_for_a_base_model_and_its_own_template_for_a_tuned_one(base_model, write_lines):
    path = write_lines([pair()])
    tuned = dataclasses.replace(base_model, is_instruction_tuned=True)
    plain, chat = data_of(base_model, path), data_of(tuned, path)
    assert plain.template is None
    assert chat.template is base_model.template
    assert data_of(base_model, path, samples={"template": "chat"}).template is base_model.template
    assert data_of(tuned, path, samples={"template": "plain"}).template is None
    assert data_of(base_model, write_lines([CHAT], "chat.jsonl")).template is base_model.template


def test_a_conversation_among_the_files_brings_the_template_for_all(base_model, write_lines):
    data = data_of(base_model, write_lines([pair()]), write_lines([CHAT], "chat.jsonl"))
    assert data.template is not None
    assert [file.format.name for file in data.files] == ["prompt-completion", "messages"]
    assert [file.num_records for file in data.files] == [1, 1]
    assert data.files[0].sha256 is not None
    assert len(data.files[0].sha256) == 64


def test_templates_that_are_missing_or_refused(base_model, write_lines):
    chat = write_lines([CHAT], "chat.jsonl")
    bare = dataclasses.replace(base_model, template=None)
    with pytest.raises(
        UsageError, match=r"--template plain: .*chat.jsonl, line 1 is a conversation, which needs a chat"
    ):
        data_of(base_model, chat, samples={"template": "plain"})
    with pytest.raises(TemplateError, match=r"chat.jsonl, line 1 is a conversation, but tiny has no chat template"):
        data_of(bare, chat)
    with pytest.raises(TemplateError, match="--template chat: tiny has no chat template"):
        data_of(bare, write_lines([pair()]), samples={"template": "chat"})


def test_the_row_is_as_long_as_asked_or_as_the_context(base_model, write_lines):
    path = write_lines([pair()] * 40)
    assert data_of(base_model, path).recipe.samples.sequence_length == 200
    assert data_of(base_model, path).rows.length == 200
    assert data_of(base_model, path, samples={"sequence_length": 32}).rows.length == 32
    assert data_of(base_model, path, samples={"packing": False}).rows.length == 64
    assert len(data_of(base_model, path, samples={"packing": False}).rows) == 40
    with pytest.raises(UsageError, match="--sequence-length 201: tiny takes texts of at most 200 tokens"):
        data_of(base_model, path, samples={"sequence_length": 201})


def test_few_samples_make_a_short_row(base_model, write_lines):
    data = data_of(base_model, write_lines([pair()]))
    assert (len(data.rows), data.rows.length) == (1, 64)


def test_all_records_that_cannot_be_used_are_told_at_once(base_model, write_lines):
    wrong = {"prompt": "a", "completion": None}
    with pytest.raises(DataError, match=r"^\S*data.jsonl, line 2: completion is null, expected a text"):
        data_of(base_model, write_lines([pair(), wrong]))
    with pytest.raises(DataError) as found:
        data_of(base_model, write_lines([pair(), *[wrong] * 7]))
    text = str(found.value)
    assert text.startswith("7 records cannot be used.\n")
    assert text.count("completion is null") == 5
    assert text.endswith("line 6: completion is null, expected a text.\n(and 2 more)")
    system = {**pair(), "system": "S"}
    with pytest.raises(DataError, match="2 records cannot be used.\n.*line 1: has a system message, but there is no"):
        data_of(base_model, write_lines([system, system]))


def test_overlong_samples(base_model, write_lines):
    path = write_lines([pair(), pair("The " * 12), pair("The", " house." * 20)])
    options: dict[str, Any] = {"sequence_length": 16}
    with pytest.raises(
        DataError, match=r"^2 samples are longer than a row of 16 tokens: \S*, line 2 \(\d+ tokens\); .*line 3"
    ):
        data_of(base_model, path, samples=options)
    dropped = data_of(base_model, path, samples={**options, "overlong": "drop"})
    assert [place.rsplit(" ", 1)[1] for place, _ in dropped.changed.overlong] == ["2", "3"]
    assert len(dropped.samples) == 1
    cut = data_of(base_model, path, samples={**options, "overlong": "truncate"})
    assert [place.rsplit(" ", 1)[1] for place, _ in cut.changed.truncated] == ["3"]
    assert [place.rsplit(" ", 1)[1] for place, _ in cut.changed.cut_empty] == ["2"]
    assert [len(each) for each in cut.samples][-1] == 16
    assert cut.samples[-1].is_target[-1]
    assert cut.samples[-1].token_ids[-1] != base_model.tokenizer.eos_token_id


def test_samples_with_nothing_to_learn(base_model, write_lines):
    path = write_lines([pair(), pair("The", "")])
    with pytest.raises(DataError, match=r"^1 sample has nothing to learn, an empty completion.*line 2 \(3 tokens\)"):
        data_of(base_model, path)
    data = data_of(base_model, path, samples={"empty": "drop"})
    assert [size for _, size in data.changed.empty] == [3]
    with pytest.raises(DataError, match="no sample is left to train on"):
        data_of(base_model, write_lines([pair("The", "")]), samples={"empty": "drop"})


def test_many_places_are_counted(base_model):
    with pytest.raises(DataError, match=r"^9 samples are longer .*line 5 \(6 tokens\); and 4 more. Raise"):
        Fitting(4, overlong="error", empty="error").of(sample(number) for number in range(1, 10))


def test_the_first_records_only(base_model, write_lines):
    path, other = write_lines([pair()] * 5), write_lines([pair()] * 5, "other.jsonl")
    data = data_of(base_model, path, other, samples={"limit": 7})
    assert [file.num_records for file in data.files] == [5, 2]


def test_a_share_is_held_out_with_equal_samples_together(base_model, write_lines):
    texts = [pair(completion=f" river {number % 10}.") for number in range(30)]
    data = data_of(base_model, write_lines(texts), evaluation={"share": 0.2})
    assert len(data.held_out_samples) == 6
    train, held = ({each.digest() for each in part} for part in (data.samples, data.held_out_samples))
    assert not train & held
    assert data.held_out is not None
    batches = data.held_out_batches()
    assert batches is not None
    assert sum(batch.num_targets for step in batches for batch in step) == data.held_out.num_targets
    assert data_of(base_model, write_lines(texts)).held_out_batches() is None


def test_the_split_follows_contents_and_seed_not_order():
    samples = [sample(number) for number in range(40)]
    held = {each.source for each in split(samples, 0.1, 7)[1]}
    assert len(held) == 4
    assert {each.source for each in split(samples[::-1], 0.1, 7)[1]} == held
    assert {each.source for each in split(samples, 0.1, 8)[1]} != held
    assert [each.source for each in split(samples, 0.1, 7)[0]] == [s.source for s in samples if s.source not in held]
    with pytest.raises(DataError, match="evaluation.share: 0.5 of 3 samples, of which 1 differ, leaves nothing"):
        split([sample(1)] * 3, 0.5, 0)


def test_a_file_is_held_out_and_its_twins_leave_training(base_model, write_lines):
    train = write_lines([pair(completion=f" river {number}.") for number in range(5)])
    held = write_lines([pair(completion=" river 3."), pair(completion=" house 9.")], "held.jsonl")
    data = data_of(base_model, train, evaluation={"data": held})
    assert len(data.held_out_samples) == 2
    assert [place.rsplit(" ", 1)[1] for place, _ in data.changed.twins] == ["4"]
    assert len(data.samples) == 4


def test_batches_are_those_of_the_recipe(base_model, write_lines):
    path = write_lines([pair(completion=f" river {number}.") for number in range(9)])
    data = data_of(base_model, path, samples={"packing": False}, batch_size=2, accumulation=2, epochs=2)
    batches = data.batches()
    assert (batches.steps_per_epoch, len(batches), batches.shape) == (3, 6, (2, 64))


def test_progress_is_told(base_model, write_lines):
    told = []
    recipe = Recipe.from_dict({"model": "tiny", "data": write_lines([pair()] * 3)})
    prepare(recipe, base_model, lambda *state: told.append(state))
    assert told == [("encoding", number, 3) for number in (1, 2, 3)]


def test_the_text_side_of_a_model(write_tiny_model, tmp_path):
    model = ModelText.load(str(write_tiny_model(tmp_path / "tiny")))
    assert (model.context, model.is_instruction_tuned) == (120, False)
    assert model.template is not None
    assert model.template.is_builtin
    assert model.tokenizer.vocab_size == 700
