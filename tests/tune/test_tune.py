"""Whole runs: what a run's folder holds, how the same call goes on, how a run that cannot go on says so."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from killing import SETTINGS, write_pairs

import gemcut
from gemcut.checkpoint import open_checkpoint
from gemcut.errors import DivergedError, GemcutError, UsageError
from gemcut.tune.recipe import Recipe
from gemcut.tune.run import Watcher, default_name, tune
from gemcut.tune.run_checkpoint import CheckpointFolder
from gemcut.tune.run_log import read_log

pytestmark = [pytest.mark.backend, pytest.mark.keras]
NUM_STEPS = 10


@pytest.fixture(scope="module")
def recipe(engine, tmp_path_factory, write_tiny_model):
    folder = tmp_path_factory.mktemp("material")
    model, data = write_tiny_model(folder / "tiny"), write_pairs(folder / "pairs.jsonl")
    return Recipe.from_dict(
        SETTINGS | {"model": str(model), "data": [str(data)], "engine": engine, "steps": NUM_STEPS, "accumulation": 1}
    )


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """A finished run, and what its watcher was told."""
    told = []
    watcher = Watcher(
        report=lambda report: told.append(("report", report.num_samples)),
        begins=lambda folder, step, notices: told.append(("begins", step, notices)),
        progress=lambda progress: told.append((progress.stage, progress.step)),
    )
    folder = tmp_path_factory.mktemp("finished") / "run"
    return tune(recipe, folder, threads=2, command="gemcut tune it", watcher=watcher), told


def test_what_the_folder_holds(finished, recipe, engine):
    result, told = finished
    assert (result.ended, result.step, result.num_steps) == ("finished", NUM_STEPS, NUM_STEPS)
    assert told[:4] == [("report", 32), ("begins", 0, ()), ("evaluating", 0), ("saving", 0)]
    assert [step for stage, step, *_ in told if stage == "training"] == [*range(1, NUM_STEPS + 1)]
    names = {path.name for path in result.folder.iterdir()}
    assert names == {
        *("recipe.yaml", "log.jsonl", "report.html", "curves.svg", "data.html"),
        *("checkpoints", "tensorboard", "adapter"),
    }
    entries = read_log(result.folder)
    losses = {entry["step"]: entry["loss"] for entry in entries if entry["kind"] == "evaluation"}
    assert list(losses) == [0, 5, 10]
    assert min(losses.values()) == result.held_out_loss == losses[result.best_step] < losses[0] - 1
    written = Recipe.from_yaml((result.folder / "recipe.yaml").read_text())
    assert written == dataclasses.replace(recipe, engine=engine)


def test_the_report(finished):
    result, _ = finished
    page = (result.folder / "report.html").read_text()
    for part in ("finished", "gemcut tune it", "<svg", "held-out loss after step", "adapter", "rank: 4", "data.html"):
        assert part in page
    rest = page.replace("http://www.w3.org/2000/svg", "")
    assert "http:" not in rest  # it needs no other host
    assert "https:" not in rest
    assert (result.folder / "curves.svg").read_text().startswith("<svg")


def test_the_adapter_is_what_was_trained(finished, recipe, engine):
    """The held-out loss that was measured in training is that of the adapter in the engine."""
    from gemcut.tune.training_data import ModelText, prepare

    result, _ = finished
    model = gemcut.load(recipe.model, engine=engine, dtype="float32", adapter=result.artefact)
    total, count = 0.0, 0
    for sample in prepare(recipe, ModelText.load(recipe.model)).held_out_samples:
        logits = model.logits(sample.token_ids.tolist())[:-1]
        scores = logits[np.arange(len(logits)), sample.token_ids[1:]] - np.logaddexp.reduce(logits, axis=1)
        total -= float(scores[sample.is_target[1:]].sum())
        count += sample.num_targets
    model.close()
    assert result.exported_step == result.best_step
    assert total / count == pytest.approx(result.held_out_loss, rel=1e-5)


def test_the_same_call_again_takes_no_step(finished, recipe):
    result, _ = finished
    before = (result.folder / "adapter" / "adapter_model.safetensors").read_bytes()
    told = []
    again = tune(recipe, result.folder, watcher=Watcher(progress=lambda progress: told.append(progress.stage)))
    assert (again.ended, again.step, told) == ("finished", NUM_STEPS, [])
    assert (result.folder / "adapter" / "adapter_model.safetensors").read_bytes() == before


def test_another_recipe_does_not_go_on(finished, recipe):
    result, _ = finished
    other = dataclasses.replace(recipe, learning_rate=0.5)
    with pytest.raises(UsageError, match=r"holds a run of another recipe \(\w{12}, this is \w{12}\). Choose another"):
        tune(other, result.folder)


def test_what_differs_is_told(finished, recipe):
    result, _ = finished
    folder = CheckpointFolder(result.folder)
    kept = folder.latest()
    facts = kept.facts | {"threads": 77, "versions": kept.facts["versions"] | {"numpy": "0.1"}}
    folder.save(dataclasses.replace(kept, facts=facts))
    told = []
    tune(recipe, result.folder, threads=2, watcher=Watcher(begins=lambda *facts: told.append(facts)))
    assert told == [(result.folder, NUM_STEPS, ("threads was 77, is 2", f"numpy was 0.1, is {np.__version__}"))]
    folder.save(kept)


def test_a_run_that_another_process_works_on(finished, recipe):
    from gemcut.tune.run import _locked

    result, _ = finished
    with _locked(result.folder), pytest.raises(UsageError, match="another process works on this run"):
        tune(recipe, result.folder)


def test_a_folder_that_cannot_be_made(recipe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GemcutError, match="cannot be made or opened"):
        tune(recipe, tmp_path / "file" / "run")


def test_the_name_of_a_run(recipe):
    assert default_name(recipe) == f"tiny-pairs-{recipe.digest()[:8]}"


def test_an_exploding_run_keeps_the_last_good_state(recipe, tmp_path):
    wild = dataclasses.replace(recipe, learning_rate=1e30, warmup=0.0, clip_norm=None)
    with pytest.raises(DivergedError, match=r"step \d+: the loss is .* lower learning rate"):
        tune(wild, tmp_path / "run")
    kept = CheckpointFolder(tmp_path / "run").latest()
    assert all(np.isfinite(values).all() for values in kept.state.trained.values())
    assert "failed. step" in (tmp_path / "run" / "report.html").read_text()
    assert not (tmp_path / "run" / "adapter").exists()
    calm = dataclasses.replace(wild, learning_rate=1e-3, steps=1)
    assert tune(calm, tmp_path / "run", fresh=True).ended == "finished"


def test_full_tuning_writes_a_model(recipe, engine, tmp_path):
    full = dataclasses.replace(recipe, method="full", learning_rate=2e-3, steps=4)
    result = tune(full, tmp_path / "run")
    assert result.artefact == tmp_path / "run" / "model"
    kept = CheckpointFolder(result.folder).load(result.exported_step)
    with open_checkpoint(result.artefact) as written:
        for name, tensor in written.tensors.items():
            assert np.array_equal(tensor.read("float32"), kept.state.trained[name]), name
    assert result.held_out_loss < read_log(result.folder)[0]["loss"] - 0.5


def test_the_result_as_json(finished):
    result, _ = finished
    assert json.loads(json.dumps(result.as_json()))["artefact"] == str(result.folder / "adapter")
