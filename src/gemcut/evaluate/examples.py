"""Solved examples before a question."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Literal

from gemcut.errors import NotFoundError, UsageError
from gemcut.evaluate.data import DataFolders, Row
from gemcut.evaluate.task import Item, Task

LM_EVAL_SEED = 1234  # of lm-evaluation-harness's few-shot sampler, 0.4.13
Sampling = Literal["fixed", "lm-eval"]


class ExampleSet:
    """The solved examples of a run.

    With "fixed" sampling all items get the same ones, so what precedes the questions is computed once; with "lm-eval"
    each item draws its own, from the random stream that lm-evaluation-harness has with its own seed.

    Args:
        task, data: What they belong to.
        num_shots: How many.
        seed: Of the draw of fixed ones.
        sampling: Which of the two.

    Attributes:
        held_out: Numbers of scored rows that serve as examples and are not scored.
        notes: Where they come from, for the report.

    Raises:
        UsageError: there are not as many.
        NotFoundError: there are not as many without a file that is not here.
    """

    def __init__(
        self, task: Task, data: DataFolders, num_shots: int, seed: int = 0, sampling: Sampling = "fixed"
    ) -> None:
        self.task, self.num_shots, self.sampling = task, num_shots, sampling
        self.held_out: set[int] = set()
        self.notes: list[str] = []
        self._random = random.Random(LM_EVAL_SEED)
        self._draws: list[list[int]] = []
        self._fixed: dict[str | None, str] = {}
        self._pools: list[list[tuple[int | None, Row]]] = []
        if not num_shots:
            return
        missing = self._fill_pools(data)
        self._each_its_own = sampling == "lm-eval" and task.shots.order == "random"
        self._all = [each for pool in self._pools for each in pool]
        has_scored = any(number is not None for number, _ in self._all)
        may_meet_item = self._each_its_own and (task.shots.without_item or has_scored)
        available = len(self._all) - int(may_meet_item)
        if missing and available < num_shots:
            raise missing
        self._check_number(available)
        if not self._each_its_own and task.shots.same is None:
            self._fixed[None] = self._drawn(seed)

    def before(self, item: Item) -> str:
        """What precedes the question of an item: the description and the examples."""
        return self.description(item) + self.examples(item)

    def description(self, item: Item) -> str:
        """What precedes the examples."""
        return self.task.description.render(item.row) if self.task.description else ""

    def examples(self, item: Item) -> str:
        """The examples, each with what stands after it."""
        if not self.num_shots:
            return ""
        if self._each_its_own:
            return self._own(item)
        same = self.task.shots.same
        if same is None:
            return self._fixed[None]
        key = str(item.row[same])
        if key not in self._fixed:
            rows = [row for pool in self._pools for _, row in pool if str(row[same]) == key]
            self._check_number(len(rows), key)
            self._fixed[key] = self._joined(rows[: self.num_shots])
        return self._fixed[key]

    def _fill_pools(self, data: DataFolders) -> NotFoundError | None:
        """Read what examples are drawn from; what is not here is left out, noted, and the error comes back."""
        missing = None
        for file in self.task.shots.files:
            try:
                self._pools.append(self._pool(data, file))
            except NotFoundError as error:
                missing = error
                self.notes.append(f"The examples of {self.task.data_set}/{file} are not on this machine; others serve.")
        if missing:
            self._pools += [self._pool(data, file) for file in self.task.shots.fallback]
        return missing

    def _pool(self, data: DataFolders, file: str) -> list[tuple[int | None, Row]]:
        """Rows of a file that serve as examples; those that are scored themselves with their numbers."""
        task = self.task
        if file in task.files:
            numbered = [(number, row) for number, row in enumerate(task.raw_rows(data)) if row["file_name"] == file]
        else:
            numbered = [(-1, {"file_name": file, **row}) for row in data.rows(task.data_set, file)]
        only = task.shots.only
        return [
            (number if number >= 0 and task.is_scored(row) else None, example)
            for number, row in numbered
            if only is None or only.value(row)
            for example in task.examples_of(row)
        ]

    def _own(self, item: Item) -> str:
        """The examples that lm-evaluation-harness draws for the item, the rows being asked in their order."""
        pool = self._all
        while len(self._draws) <= item.number:
            self._draws.append(self._random.sample(range(len(pool)), self.num_shots + self.task.shots.without_item))
        drawn = self._draws[item.number]
        spare = (place for place in range(len(pool)) if place not in drawn)  # the harness shows some their own answer
        chosen = (pool[place] for place in itertools.chain(drawn, spare))
        others = (row for number, row in chosen if number != item.number)
        return self._joined(list(itertools.islice(others, self.num_shots)))

    def _drawn(self, seed: int) -> str:
        """Fixed examples: of each file in turn as many as are still missing."""
        chosen: list[tuple[int | None, Row]] = []
        for pool in self._pools:
            missing = min(self.num_shots - len(chosen), len(pool))
            first = self.task.shots.order == "first"
            chosen += pool[:missing] if first else random.Random(seed).sample(pool, missing)
        self.held_out = {number for number, _ in chosen if number is not None}
        if self.held_out:
            self.notes.append(
                f"{len(self.held_out)} of the {self.num_shots} examples are rows of the scored file (no others can be "
                f"had); they are not scored: rows {', '.join(str(number + 1) for number in sorted(self.held_out))}."
            )
        return self._joined([row for _, row in chosen])

    def _check_number(self, available: int, key: str | None = None) -> None:
        if available < self.num_shots:
            raise UsageError(
                f"--shots {self.num_shots}: {self.task.name} has {available} examples"
                f"{'' if key is None else f' for {key!r}'}, expected as many. Ask for fewer."
            )

    def _joined(self, rows: Sequence[Row]) -> str:
        return "".join(self.task.solved(row) + self.task.separator for row in rows)


__all__ = ["LM_EVAL_SEED", "ExampleSet", "Sampling"]
