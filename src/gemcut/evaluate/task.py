"""A benchmark task: what is asked about each row of a data set, and how the answers are scored."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any, Literal

from gemcut.errors import DataError, UsageError
from gemcut.evaluate import rows as row_functions
from gemcut.evaluate.data import DataFolders, Row
from gemcut.evaluate.metrics import CHOICE_METRICS, TextScorer
from gemcut.evaluate.templates import Expression, Template

LM_EVAL_SEED = 1234  # of lm-evaluation-harness's few-shot sampler, 0.4.13
Sampling = Literal["fixed", "lm-eval"]


@dataclasses.dataclass(frozen=True)
class Item:
    """One scored row.

    Attributes:
        item_id: Unique in its task, and the same in every run.
        row: Its fields.
        subset: Which part of the task it belongs to; None where there are none.
    """

    item_id: str
    row: Row
    subset: str | None = None


@dataclasses.dataclass(frozen=True)
class ScoreRequest:
    """How probable is `continuation` after `context`? An empty context is the beginning of a text."""

    context: str
    continuation: str


@dataclasses.dataclass(frozen=True)
class GenerateRequest:
    """What does the model write after `prompt`, up to one of `stop` or `max_tokens`?"""

    prompt: str
    stop: tuple[str, ...]
    max_tokens: int


@dataclasses.dataclass(frozen=True)
class ChoiceScore:
    """The answer to a ScoreRequest.

    Attributes:
        logprob: Natural logarithm of the continuation's probability.
        num_tokens: Tokens of the continuation.
        is_greedy: Whether each is the most probable one.
    """

    logprob: float
    num_tokens: int
    is_greedy: bool


Request = ScoreRequest | GenerateRequest
Answer = ChoiceScore | str


@dataclasses.dataclass(frozen=True)
class ShotSource:
    """Where solved examples come from.

    Attributes:
        files: Of the task's data set, in the order in which they are drawn from; the scored file may be among them.
        order: "random", or "first" for the first rows in order.
        same: A field that an example must have in common with the item; None for none.
    """

    files: tuple[str, ...] = ()
    order: Literal["random", "first"] = "random"
    same: str | None = None


@dataclasses.dataclass(frozen=True)
class Task:
    """A benchmark task; every one is read from a file, see `task_file.load_task`.

    Attributes:
        name, title, licence, notes: For people.
        kind: "choices" compares the probabilities of texts, "generate" has the model write.
        data_set, file: What is scored.
        process: Makes a row ready for the templates.
        fields: What a row must have.
        num_shots: Solved examples before the question, unless told otherwise.
        shots: Where they come from.
        description: Before everything else.
        prompt: The question.
        choices: The texts to choose from; with `continuation`, the beginnings that it follows instead.
        continuation: What follows each of the beginnings; None for what most tasks do.
        gold: Index of the right choice, or the right answers of a text.
        target: What a solved example ends with; of "choices" the right choice.
        delimiter: Between question and answer.
        separator: Between examples.
        stop, max_tokens: Of "generate".
        scorer: Of "generate".
        metrics: Names; the first one is the one that is quoted.
        subset: A field that parts the task; None for no parts.
    """

    name: str
    title: str
    kind: Literal["choices", "generate"]
    data_set: str
    file: str
    prompt: Template
    gold: Expression
    metrics: tuple[str, ...]
    licence: str = ""
    notes: tuple[str, ...] = ()
    process: str | None = None
    fields: tuple[str, ...] = ()
    num_shots: int = 0
    shots: ShotSource = ShotSource()
    description: Template | None = None
    choices: Expression | None = None
    continuation: Template | None = None
    target: Template | None = None
    delimiter: str = " "
    separator: str = "\n\n"
    stop: tuple[str, ...] = ()
    max_tokens: int = 256
    scorer: TextScorer | None = None
    subset: str | None = None

    def items(self, data: DataFolders, held_out: Sequence[int] = ()) -> list[Item]:
        """The scored rows, without those of the numbers `held_out`, which serve as examples.

        Raises:
            DataError: a row lacks a field, or two have the same "id".
        """
        items, seen = [], set()
        for number, raw in enumerate(data.rows(self.data_set, self.file)):
            if number in held_out:
                continue
            self._check_fields(raw, number)
            row = self.prepared(raw)
            given = raw.get("id")
            if given is not None and given in seen:
                raise DataError(f"{self.data_set}/{self.file}: two rows have the id {given!r}, expected each once.")
            seen.add(given)
            items.append(Item(str(number), row, None if self.subset is None else str(row[self.subset])))
        return items

    def prepared(self, raw: Row) -> Row:
        """A row, scored or an example, as the templates take it."""
        return dict(row_functions.PROCESS[self.process](raw)) if self.process else raw

    def _check_fields(self, raw: Row, number: int) -> None:
        for field in self.fields:
            if field not in raw:
                raise DataError(
                    f"{self.data_set}/{self.file}: row {number + 1} has no field {field!r}, expected "
                    f"{', '.join(self.fields)}. The file is damaged or of another task."
                )

    def question(self, row: Row) -> str:
        """The prompt of a row, without examples."""
        return self.prompt.render(row)

    def solved(self, row: Row) -> str:
        """A row as an example."""
        if self.continuation is not None:
            beginning = self.options(row)[int(self.gold.value(row))]
            return beginning + self.delimiter + self.continuation.render(row)
        if self.target is not None:
            return self.question(row) + self.delimiter + self.target.render(row)
        return self.question(row) + self.delimiter + self.options(row)[int(self.gold.value(row))]

    def options(self, row: Row) -> list[str]:
        """The texts to choose from."""
        assert self.choices is not None
        return [str(choice) for choice in self.choices.value(row)]

    def gold_of(self, item: Item) -> Any:
        """What is right: an index of the choices, or a list of texts."""
        value = self.gold.value(item.row)
        if self.kind == "choices":
            return int(value)
        return [str(each) for each in value] if isinstance(value, (list, tuple)) else [str(value)]

    def requests(self, item: Item, before: str) -> list[Request]:
        """What the model is asked about an item; `before` is what precedes it: description and examples."""
        if self.kind == "generate":
            return [GenerateRequest(before + self.question(item.row), self.stop, self.max_tokens)]
        options = self.options(item.row)
        if self.continuation is not None:
            end = self.delimiter + self.continuation.render(item.row)
            return [ScoreRequest(before + beginning, end) for beginning in options]
        context = before + self.question(item.row)
        return [ScoreRequest(context, self.delimiter + option) for option in options]

    def score(self, item: Item, answers: Sequence[Answer]) -> dict[str, float]:
        """Each metric of one item.

        Raises:
            DataError: the model gave a number that is none.
        """
        if self.kind == "generate":
            assert self.scorer is not None
            return self.scorer.score(str(answers[0]), self.gold_of(item))
        scores = [answer for answer in answers if isinstance(answer, ChoiceScore)]
        lengths = [1] * len(scores) if self.continuation is not None else [len(each) for each in self.options(item.row)]
        gold = self.gold_of(item)
        return {name: CHOICE_METRICS[name](scores, lengths, gold) for name in self.metrics}


class ExampleSet:
    """The solved examples of a run.

    With "fixed" sampling all items get the same ones, so what precedes the questions is computed once; with "lm-eval"
    each item draws its own, from the random stream that lm-evaluation-harness has.

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
    """

    def __init__(
        self, task: Task, data: DataFolders, num_shots: int, seed: int = 0, sampling: Sampling = "fixed"
    ) -> None:
        self.task, self.num_shots, self.sampling = task, num_shots, sampling
        self.held_out: set[int] = set()
        self.notes: list[str] = []
        self._random = random.Random(LM_EVAL_SEED)
        self._fixed: dict[str | None, str] = {}
        self._pools = [
            [(file, number, row) for number, row in enumerate(data.rows(task.data_set, file))] for file in task.shots.files
        ]
        if num_shots and sampling == "fixed" and task.shots.same is None:
            self._fixed[None] = self._drawn(seed)

    def before(self, item: Item) -> str:
        """What precedes the question of an item: the description and the examples."""
        description = self.task.description.render(item.row) if self.task.description else ""
        if not self.num_shots:
            return description
        if self.sampling == "lm-eval" and self.task.shots.order == "random":
            pool = [row for rows in self._pools for _, _, row in rows]
            return description + self._joined(self._random.sample(pool, self.num_shots))
        same = self.task.shots.same
        key = None if same is None else str(item.row[same])
        if key not in self._fixed:
            self._fixed[key] = self._joined(self._first(key))
        return description + self._fixed[key]

    def _first(self, key: str | None) -> list[Row]:
        same = self.task.shots.same
        rows = [row for rows in self._pools for _, _, row in rows if same is None or str(row[same]) == key]
        if len(rows) < self.num_shots:
            raise UsageError(
                f"--shots {self.num_shots}: {self.task.name} has {len(rows)} examples for {key!r}, expected as many. "
                "Ask for fewer."
            )
        return rows[: self.num_shots]

    def _drawn(self, seed: int) -> str:
        """Fixed examples: of each file in turn as many as are still missing."""
        chosen: list[Row] = []
        for pool in self._pools:
            missing = min(self.num_shots - len(chosen), len(pool))
            first = pool[:missing] if self.task.shots.order == "first" else random.Random(seed).sample(pool, missing)
            chosen += [row for _, _, row in first]
            held_out = {number for file, number, _ in first if file == self.task.file}
            self.held_out |= held_out
            if held_out:
                self.notes.append(
                    f"{len(held_out)} of the {self.num_shots} examples are rows of the scored file (no others can be "
                    f"had); they are not scored: rows {', '.join(str(number + 1) for number in sorted(held_out))}."
                )
        if len(chosen) < self.num_shots:
            raise UsageError(
                f"--shots {self.num_shots}: {self.task.name} has {len(chosen)} examples, expected as many. Ask for fewer."
            )
        return self._joined(chosen)

    def _joined(self, rows: Sequence[Row]) -> str:
        task = self.task
        return "".join(task.solved(task.prepared(row)) + task.separator for row in rows)


__all__ = ["Answer", "ChoiceScore", "ExampleSet", "GenerateRequest", "Item", "Request", "ScoreRequest", "Task"]
