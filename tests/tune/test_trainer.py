"""The loop of a run: when it evaluates, saves and ends, and that it goes on where it was."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from training import batch_of, documents_of, recipe_of

from gemcut.errors import DataError, DivergedError
from gemcut.tune.batches import Batches
from gemcut.tune.packing import one_each
from gemcut.tune.run_checkpoint import CheckpointFolder
from gemcut.tune.run_log import EVENTS, LOG, RunLog, read_log
from gemcut.tune.samples import Sample
from gemcut.tune.train_state import StepResult, TrainState
from gemcut.tune.trainer import FINISHED, INTERRUPTED, STOPPED_EARLY, Trainer


class FakeStep:
    """Sums what it saw, so that order and number of steps show in its state."""

    def __init__(self, held_out=(), diverges_at=None):
        self.step, self.seen, self.order = 0, 0.0, []
        self.held_out, self.diverges_at = list(held_out), diverges_at

    def run(self, step):
        if self.step == self.diverges_at:
            return StepResult(math.nan, 1, math.inf, 0.1)
        self.order += [batch.token_ids.tobytes() for batch in step]
        self.seen = self.seen * 1.5 + sum(float(batch.token_ids.sum()) for batch in step)
        self.step += 1
        return StepResult(self.seen, sum(batch.num_targets for batch in step), 1.0, 0.1)

    def loss(self, batch):
        return self.held_out[self.step] * batch.num_targets, batch.num_targets

    def state(self):
        seen = np.array([self.seen], np.float32)
        return TrainState(self.step, {"seen": seen}, {"seen": {"mean": seen}})

    def load_state(self, state):
        self.step, self.seen = state.step, float(state.trained["seen"][0])


def rows_of(number, seed=5):
    return one_each([Sample(*document, f"line {i}") for i, document in enumerate(documents_of([7] * number, seed))], 8)


@pytest.fixture
def run(tmp_path):
    """Run a trainer on 6 rows, two a step, for two epochs; returns how it ended, and the trainer."""

    def start(train, *, stop_at=None, held_out=False, **changes):
        recipe = recipe_of(**changes)
        batches = Batches(rows_of(6), batch_size=2, seed=3, epochs=2)
        folder = CheckpointFolder(tmp_path, recipe.checkpoints.keep_last)
        latest = folder.latest()
        log = RunLog(tmp_path, latest.state.step if latest else 0)
        trainer = Trainer(
            train, batches, recipe, folder, log, {"seed": 3},
            held_out=(lambda: Batches(rows_of(2, seed=9), batch_size=1, shuffle=False)) if held_out else None,
            is_asked_to_stop=lambda: stop_at is not None and train.step >= stop_at,
        )  # fmt: skip
        if latest:
            trainer.restore(latest)
        try:
            return trainer.run(), trainer
        finally:
            log.close()

    return start


def steps_saved(tmp_path):
    return CheckpointFolder(tmp_path).steps()


def test_it_takes_all_steps_and_saves_each_epoch(run, tmp_path):
    ended, trainer = run(FakeStep())
    assert (ended, trainer.train.step, steps_saved(tmp_path)) == (FINISHED, 6, [3, 6])
    assert [entry["step"] for entry in read_log(tmp_path)] == [1, 2, 3, 4, 5, 6]
    entry = read_log(tmp_path)[0]
    assert entry.keys() == {
        *("kind", "step", "loss", "num_targets", "gradient_norm", "learning_rate"),
        *("num_tokens", "seconds", "tokens_per_second", "epoch", "memory_bytes"),
    }
    assert (entry["num_tokens"], round(entry["epoch"], 3)) == (14, 0.333)


@pytest.mark.parametrize("stop_at", [1, 2, 3, 5])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(run, tmp_path, stop_at):
    _, whole = run(FakeStep())
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    first, second = FakeStep(), FakeStep()
    assert run(first, stop_at=stop_at)[0] == INTERRUPTED
    assert steps_saved(tmp_path)[-1] == stop_at
    ended, trainer = run(second)
    assert (ended, trainer.train.step) == (FINISHED, 6)
    assert first.order + second.order == whole.train.order
    assert second.seen == whole.train.seen
    assert [entry["step"] for entry in read_log(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert trainer.memory.tokens == whole.memory.tokens


def test_a_finished_run_does_nothing_more(run, tmp_path):
    run(FakeStep())
    again = FakeStep()
    assert run(again)[0] == FINISHED
    assert (again.step, again.order) == (6, [])


def test_it_evaluates_before_the_first_step_and_then_each_epoch(run, tmp_path):
    losses = [3.0, 0, 0, 1.0, 0, 0, 2.0]
    ended, trainer = run(FakeStep(losses), held_out=True)
    found = [(entry["step"], entry["loss"]) for entry in read_log(tmp_path) if entry["kind"] == "evaluation"]
    assert found == [(0, 3.0), (3, 1.0), (6, 2.0)]
    assert (ended, trainer.memory.best_step, trainer.memory.best_loss) == (FINISHED, 3, 1.0)


def test_the_best_is_kept(run, tmp_path):
    run(FakeStep([4.0, 1.0, 2.0, 3.0, 2.0, 1.5, 2.0]), held_out=True, evaluation={"share": 0.1, "every": 1},
        checkpoints={"every": 1, "keep_last": 1})  # fmt: skip
    assert steps_saved(tmp_path) == [1, 6]


def test_it_stops_early_when_nothing_gets_better(run, tmp_path):
    ended, trainer = run(
        FakeStep([4.0, 3.0, 2.0, 2.5, 2.0, 0, 0]), held_out=True, evaluation={"share": 0.1, "every": 1, "patience": 2}
    )
    assert (ended, trainer.train.step, trainer.memory.best_step) == (STOPPED_EARLY, 4, 2)
    assert run(FakeStep([9.0] * 9), held_out=True, evaluation={"share": 0.1, "every": 1, "patience": 2})[0] == (
        STOPPED_EARLY
    )


def test_an_evaluation_that_was_interrupted_is_done_again(run, tmp_path):
    losses = [4.0, 0, 0, 1.0, 0, 0, 2.0]
    ended, trainer = run(FakeStep(losses), held_out=True, stop_at=3)
    assert (ended, trainer.memory.evaluated) == (INTERRUPTED, 0)
    run(FakeStep(losses), held_out=True)
    found = [entry["step"] for entry in read_log(tmp_path) if entry["kind"] == "evaluation"]
    assert found == [0, 3, 6]


def test_a_loss_that_is_no_number_ends_the_run_with_the_state_before_it(run, tmp_path):
    with pytest.raises(DivergedError, match=r"(?s)step 5: the loss is nan .* after step 4 is kept in .*-00000004\."):
        run(FakeStep(diverges_at=4))
    kept = CheckpointFolder(tmp_path).latest()
    assert (kept.state.step, kept.cursor["epoch"], kept.cursor["position"]) == (4, 1, 1)
    whole = FakeStep()
    run(whole)
    assert whole.step == 6


def test_what_the_log_says_of_steps_that_come_again_goes(tmp_path):
    log = RunLog(tmp_path)
    for step in (1, 2, 3):
        log.write("step", step, {"loss": math.nan if step == 1 else 0.5})
    log.close()
    with open(tmp_path / LOG, "a") as file:
        file.write('{"kind": "st')
    assert [entry["loss"] for entry in read_log(tmp_path)] == [None, 0.5, 0.5]
    RunLog(tmp_path, 2).close()
    assert [entry["step"] for entry in read_log(tmp_path)] == [1, 2]


def test_a_damaged_log_is_named(tmp_path):
    (tmp_path / LOG).write_text(json.dumps({"kind": "step", "step": 1}) + "\n[]\n")
    with pytest.raises(DataError, match=r"log.jsonl, line 2: is no entry of a run"):
        read_log(tmp_path)


@pytest.mark.backend
@pytest.mark.keras
def test_tensorboard_reads_the_events(tmp_path, engine):
    if engine != "tensorflow":
        pytest.skip("TensorFlow reads TensorBoard's files")
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    log = RunLog(tmp_path, 299)
    log.write("step", 300, {"loss": 0.5, "learning_rate": 0.1, "gradient_norm": 2.0})
    log.close()
    [path] = (tmp_path / EVENTS).iterdir()
    events = [event_pb2.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    assert (events[0].file_version, events[1].session_log.status, events[1].step) == ("brain.Event:2", 1, 300)
    found = {value.tag: value.simple_value for value in events[2].summary.value}
    assert (events[2].step, found["train/loss"]) == (300, 0.5)
    assert found.keys() == {"train/loss", "train/learning_rate", "train/gradient_norm"}


def test_batches_of_the_helpers_are_the_products_own():
    """What the other tests train on has the form that packing gives."""
    documents = documents_of([5, 7])
    ours = batch_of([documents[:1], documents[1:]], 8)
    rows = one_each([Sample(*document, "x") for document in documents], 8)
    for index, row in enumerate((rows[0], rows[1])):
        for name in ("token_ids", "targets", "positions", "segments"):
            assert np.array_equal(getattr(ours, name)[index], getattr(row, name)), name
