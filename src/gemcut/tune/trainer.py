"""The loop of a run: steps, evaluations, checkpoints; it can stop after any step and go on from there."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from gemcut.errors import DivergedError
from gemcut.tune.batches import Batches, Step
from gemcut.tune.memory import peak_memory_bytes
from gemcut.tune.recipe import Recipe
from gemcut.tune.run_checkpoint import CheckpointFolder, RunCheckpoint
from gemcut.tune.run_log import EVALUATION, STEP, RunLog
from gemcut.tune.train_state import StepResult

if TYPE_CHECKING:
    from gemcut.tune.train_step import TrainStep

RATE_STEPS = 20  # the speed shown is that of so many last steps
FINISHED, STOPPED_EARLY, INTERRUPTED = "finished", "stopped early", "interrupted"


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        stage: "training", "evaluating" or "saving".
        step, num_steps: Steps done, and of the whole run.
        loss: Of the last step; None before the first.
        held_out_loss: Of the last evaluation; None before the first.
        tokens_per_second: Tokens of rows, padding left out, lately; None before the second step.
        seconds_left: Until the last step, at this speed.
        memory_bytes: The most that the process had in use so far.
    """

    stage: str
    step: int
    num_steps: int
    loss: float | None = None
    held_out_loss: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    memory_bytes: int | None = None


@dataclasses.dataclass
class Memory:
    """What the trainer remembers between steps, and across a resume.

    Attributes:
        best_step, best_loss: The evaluation with the lowest held-out loss so far.
        num_worse: Evaluations since then.
        evaluated: The step of the last evaluation; -1 before the first.
        held_out_loss: Its loss.
        tokens, seconds: All that training took so far.
    """

    best_step: int | None = None
    best_loss: float = math.inf
    num_worse: int = 0
    evaluated: int = -1
    held_out_loss: float | None = None
    tokens: int = 0
    seconds: float = 0.0

    def note(self, step: int, loss: float | None) -> None:
        """Take in an evaluation; without a loss none is the best."""
        self.evaluated, self.held_out_loss = step, loss
        if loss is None:
            return
        if loss < self.best_loss:
            self.best_step, self.best_loss, self.num_worse = step, loss, 0
        else:
            self.num_worse += 1

    def as_json(self) -> dict[str, Any]:
        """All of it; a loss that is not there yet is null."""
        values = dataclasses.asdict(self)
        return values | {"best_loss": None if math.isinf(self.best_loss) else self.best_loss}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Memory:
        """What `as_json` gave."""
        best = values["best_loss"]
        return cls(**values | {"best_loss": math.inf if best is None else best})


class Trainer:
    """Runs a recipe's steps.

    Args:
        train: Takes the steps.
        batches: What they learn from.
        recipe: Intervals of evaluations and checkpoints, patience.
        folder: Where checkpoints go.
        log: Where every step is written down.
        facts: What every checkpoint says of the run.
        held_out: One pass over what is held out; None where nothing is.
        task_scores: Asks tasks of the state at hand, for a score by the task's name; None where there are none.
        progress: Called after every step and before longer work.
        is_asked_to_stop: Whether to save and leave; asked after every step and every batch of an evaluation.
    """

    def __init__(
        self,
        train: TrainStep,
        batches: Batches,
        recipe: Recipe,
        folder: CheckpointFolder,
        log: RunLog,
        facts: dict[str, Any],
        *,
        held_out: Callable[[], Batches] | None = None,
        task_scores: Callable[[], dict[str, float]] | None = None,
        progress: Callable[[Progress], None] | None = None,
        is_asked_to_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.train, self.batches, self.recipe = train, batches, recipe
        self.folder, self.log, self._facts = folder, log, facts
        self._held_out, self._task_scores = held_out, task_scores
        self._tell = progress or (lambda _: None)
        self._is_asked_to_stop = is_asked_to_stop
        self.memory = Memory()
        self._loss: float | None = None
        self._recent: list[tuple[int, float]] = []  # tokens and seconds of the last steps, but for the first, compiled
        self._num_taken = 0
        self._cursor = batches.cursor  # behind the last step that went well
        self._saved: tuple[int, int] | None = None  # steps done and evaluated that the newest checkpoint knows of

    def restore(self, checkpoint: RunCheckpoint) -> None:
        """Go on from a checkpoint of this run."""
        self.train.load_state(checkpoint.state)
        self.batches.seek(checkpoint.cursor)
        self.memory = Memory.from_json(checkpoint.progress)
        self._cursor = self.batches.cursor
        self._saved = (self.train.step, self.memory.evaluated)

    def run(self) -> str:
        """Take the steps that are left; each is in the log, and the last one in a checkpoint.

        Returns:
            FINISHED, STOPPED_EARLY or INTERRUPTED.

        Raises:
            DivergedError: the loss or a gradient is no number any more; the state before that step is saved.
            GemcutError: a checkpoint or the log could not be written.
        """
        ended = self._after_step()
        if ended is None:
            for step in self.batches:
                self._take(step)
                ended = self._after_step()
                if ended is not None:
                    break
        self._save()
        return ended or FINISHED

    def _take(self, step: Step) -> None:
        begin = time.perf_counter()
        result = self.train.run(step)
        seconds = time.perf_counter() - begin
        if not result.is_finite:
            self._diverged(result)
        self._cursor = self.batches.cursor
        tokens = sum(int((batch.segments > 0).sum()) for batch in step)
        self.memory.tokens += tokens
        self.memory.seconds += seconds
        self._loss = result.loss
        if self._num_taken:
            self._recent = [*self._recent, (tokens, seconds)][-RATE_STEPS:]
        self._num_taken += 1
        values = {
            **{field.name: getattr(result, field.name) for field in dataclasses.fields(result)},
            "num_tokens": tokens,
            "seconds": round(seconds, 4),
            "tokens_per_second": round(tokens / seconds, 2),
            "epoch": round(self.batches.step / self.batches.steps_per_epoch, 4),
            "memory_bytes": peak_memory_bytes(),
        }
        self.log.write(STEP, self.train.step, values)
        self._report("training")

    def _diverged(self, result: StepResult) -> None:
        """Save the state before the step that went wrong, and say what happened."""
        done, path = self.train.step, self._save()
        raise DivergedError(
            f"step {done + 1}: the loss is {result.loss} and the gradients' norm {result.gradient_norm}, expected "
            f"numbers; learning rate {result.learning_rate:.3g}. The state after step {done} is kept in {path}. Begin "
            "a new run with a lower learning rate or a longer warm-up."
        )

    def _after_step(self) -> str | None:
        """Evaluate and save where it is time to; why the run ends here, or None."""
        if self._is_evaluation_due() and not self._evaluate():
            return INTERRUPTED
        patience = self.recipe.evaluation.patience
        if patience is not None and self.memory.num_worse >= patience:
            return STOPPED_EARLY
        if self._is_asked_to_stop():
            return INTERRUPTED if self.batches.step < len(self.batches) else None
        every = self.recipe.checkpoints.every or self.batches.steps_per_epoch
        if self.train.step and self.train.step % every == 0:
            self._save()
        return None

    def _is_evaluation_due(self) -> bool:
        step = self.train.step
        has_none = self._held_out is None and self._task_scores is None
        if has_none or self.memory.evaluated == step:
            return False
        every = self.recipe.evaluation.every or self.batches.steps_per_epoch
        return step % every == 0 or step == len(self.batches)

    def _evaluate(self) -> bool:
        """The held-out loss and the tasks' scores; False where it was interrupted, to be done again."""
        self._report("evaluating")
        begin, step = time.perf_counter(), self.train.step
        values: dict[str, Any] = {"loss": None, "num_targets": 0}
        if self._held_out is not None:
            total, count = 0.0, 0
            for batch in _each(self._held_out()):
                if self._is_asked_to_stop():
                    return False
                loss, num_targets = self.train.loss(batch)
                total, count = total + loss, count + num_targets
            values = {"loss": total / max(1, count), "num_targets": count}
        if self._task_scores is not None:
            values["tasks"] = self._task_scores()
        self.memory.note(step, values["loss"])
        self.log.write(EVALUATION, step, values | {"seconds": round(time.perf_counter() - begin, 4)})
        if self.memory.best_step == step and self.recipe.checkpoints.keep_best:
            self._save()
        return True

    def _save(self) -> str:
        """Write a checkpoint of now, unless there is one; its path."""
        step, known = self.train.step, (self.train.step, self.memory.evaluated)
        if self._saved != known:
            self._report("saving")
            best = self.memory.best_step if self.recipe.checkpoints.keep_best else None
            self.folder.save(
                RunCheckpoint(self.train.state(), self._cursor, self.memory.as_json(), self._facts), keep=best
            )
            self._saved = known
        return str(self.folder.file(step))

    def _report(self, stage: str) -> None:
        tokens, seconds = (sum(each[place] for each in self._recent) for place in (0, 1))
        left = len(self.batches) - self.train.step
        self._tell(
            Progress(
                stage,
                self.train.step,
                len(self.batches),
                self._loss,
                self.memory.held_out_loss,
                tokens / seconds if seconds else None,
                left * seconds / len(self._recent) if self._recent else None,
                peak_memory_bytes(),
            )
        )


def _each(batches: Batches) -> Iterator[Any]:
    """The micro-batches of all steps."""
    for step in batches:
        yield from step
