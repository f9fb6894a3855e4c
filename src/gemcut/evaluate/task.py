"""A benchmark task: what is asked about each row of a data set, and how the answers are scored."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, Protocol

from gemcut.errors import BackendError, DataError
from gemcut.evaluate import rows as row_functions
from gemcut.evaluate.aggregate import AGGREGATES, Figure, ItemResult
from gemcut.evaluate.data import DataFolders, Row
from gemcut.evaluate.metrics import CHOICE_METRICS, ChoiceAnswer
from gemcut.evaluate.templates import Expression, Template

Kind = Literal["choices", "generate", "rolling"]


@dataclasses.dataclass(frozen=True)
class Item:
    """One scored row.

    Attributes:
        item_id: Unique in its task, and the same in every run.
        row: Its fields.
        subset: Which part of the task it belongs to; None where there are none.
        number: Of the row among all rows of the task's files, from 0.
    """

    item_id: str
    row: Row
    subset: str | None = None
    number: int = 0


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
class RollingRequest:
    """How probable is a text of any length? Each token is scored once, in windows that begin with BOS."""

    text: str


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


@dataclasses.dataclass(frozen=True)
class RollingScore:
    """The answer to a RollingRequest: natural logarithm of the text's probability, and its tokens without BOS."""

    logprob: float
    num_tokens: int


Request = ScoreRequest | GenerateRequest | RollingRequest
Answer = ChoiceScore | RollingScore | str


class AnswerScorer(Protocol):
    """How a written answer is scored."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what it gives, the one that is quoted first."""

    def score(self, text: str, row: Row, right: Sequence[str]) -> dict[str, float]:
        """Each metric of the answer `text`; `right` is what the row's gold says."""


@dataclasses.dataclass(frozen=True)
class ShotSource:
    """Where solved examples come from.

    Attributes:
        files: Of the task's data set, in the order in which they are drawn from; the scored file may be among them.
        fallback: Files that serve where one of `files` is not on this machine; the report says so.
        order: "random", or "first" for the first rows in order.
        same: A field that an example must have in common with the item; None for none.
        only: Which rows serve; None for all.
        process: Makes several examples of one row, see `rows.EXAMPLES`.
        without_item: lm-evaluation-harness draws one example more and leaves out the item itself: it does so where a
            task has no split called test. It changes which examples come, not that an item never is its own.
    """

    files: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()
    order: Literal["random", "first"] = "random"
    same: str | None = None
    only: Expression | None = None
    process: str | None = None
    without_item: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
    """A benchmark task; every one is read from a file, see `task_file.load_task`.

    Attributes:
        name, title, licence, notes: For people.
        kind: "choices" compares the probabilities of texts, "generate" has the model write, "rolling" scores texts.
        data_set, files: What is scored; a row knows the name of its file as the field file_name.
        joined: Another file of the set, a field there, and what of a row must equal it: its row lends the other its
            fields.
        sha256: Of the contents of a user's file; None to take what is there.
        given_rows: The rows themselves where they are in no data set.
        only: Which rows are scored; None for all.
        process: Makes a row ready for the templates.
        fields: What a row must have.
        id_field: What names a row, where rows have it: no two may be equal.
        num_rows: How many are scored, for people, where it is not all of the files; 0 where it is.
        num_shots: Solved examples before the question, unless told otherwise.
        shots: Where they come from.
        description: Before everything else.
        prompt: The question; of "rolling" the text.
        choices: The texts to choose from; with `continuation`, the beginnings that it follows instead.
        continuation: What follows each of the beginnings; None for what most tasks do.
        gold: Index of the right choice or a list of such, or the right answers of a text.
        target: What a solved example ends with; of "choices" the right choice.
        delimiter: Between question and answer.
        separator: Between examples.
        stop, max_tokens: Of "generate".
        scorer: Of "generate".
        metrics: Names; the first one is the one that is quoted.
        counted: Further metrics of choices that `aggregate_name` needs.
        subset: What parts the task; None for no parts.
        labels: Names under which an item's metrics count once more, as METRIC_LABEL; with them, of an item's metrics
            only those among `metrics` count without a label.
        aggregate_name: Which function of `aggregate` makes figures of the items' metrics.
        parts: Subsets that are asked or scored in another way.
    """

    name: str
    title: str
    kind: Kind
    data_set: str
    files: tuple[str, ...]
    prompt: Template
    metrics: tuple[str, ...]
    gold: Expression | None = None
    joined: tuple[str, str, Expression] | None = None
    sha256: str | None = None
    given_rows: tuple[Row, ...] | None = None
    licence: str = ""
    notes: tuple[str, ...] = ()
    only: Expression | None = None
    process: str | None = None
    fields: tuple[str, ...] = ()
    id_field: str = "id"
    num_rows: int = 0
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
    scorer: AnswerScorer | None = None
    counted: tuple[str, ...] = ()
    subset: Expression | None = None
    labels: Expression | None = None
    aggregate_name: str = "mean"
    parts: Mapping[str, Task] = dataclasses.field(default_factory=dict)

    @property
    def primary_metric(self) -> str:
        """The metric that is quoted."""
        return self.metrics[0]

    @property
    def executes_code(self) -> bool:
        """Whether its answers are programs that scoring runs."""
        return bool(getattr(self.scorer, "executes_code", False))

    def items(self, data: DataFolders, held_out: Collection[int] = ()) -> list[Item]:
        """The scored rows, without those of the numbers `held_out`, which serve as examples.

        Raises:
            DataError: a row lacks a field, or two have the same id, or there are none.
        """
        items: list[Item] = []
        seen: set[Any] = set()
        for number, raw in enumerate(self.raw_rows(data)):
            if number in held_out or not self.is_scored(raw):
                continue
            self._check_fields(raw, number)
            self._check_id(raw, seen)
            row = self.prepared(raw)
            subset = None if self.subset is None else str(self.subset.value(row))
            items.append(Item(str(number), row, subset, number))
        if not items:
            raise DataError(f"{self.data_set}/{self.files[0]}: has no rows to score, expected at least one.")
        return items

    def raw_rows(self, data: DataFolders) -> list[Row]:
        """All rows of the task's files, in order, as they are there."""
        if self.given_rows is not None:
            return list(self.given_rows)
        rows = [
            {"file_name": file, **row} for file in self.files for row in data.rows(self.data_set, file, self.sha256)
        ]
        return rows if self.joined is None else self._with_lent_fields(rows, data, *self.joined)

    def _with_lent_fields(
        self, rows: list[Row], data: DataFolders, file: str, field: str, key: Expression
    ) -> list[Row]:
        lenders = {row.get(field): row for row in data.rows(self.data_set, file)}
        joined = []
        for row in rows:
            value = key.value(row)
            if value not in lenders:
                raise DataError(
                    f"{self.data_set}/{file}: has no row with the {field} {value!r}, expected one for each row of "
                    f"{row['file_name']}. The files do not belong together."
                )
            joined.append(lenders[value] | row)
        return joined

    def is_scored(self, raw: Row) -> bool:
        """Whether a row is among those that are scored."""
        return self.only is None or bool(self.only.value(raw))

    def prepared(self, raw: Row) -> Row:
        """A row, scored or an example, as the templates take it."""
        return dict(row_functions.PROCESS[self.process](raw)) if self.process else raw

    def examples_of(self, raw: Row) -> list[Row]:
        """The solved examples that a row of an example file holds, as the templates take them."""
        if self.shots.process:
            return list(row_functions.EXAMPLES[self.shots.process](raw))
        return [self.prepared(raw)]

    def _check_fields(self, raw: Row, number: int) -> None:
        for field in self.fields:
            if field not in raw:
                raise DataError(
                    f"{self.data_set}/{raw.get('file_name', self.files[0])}: row {number + 1} has no field {field!r}, "
                    f"expected {', '.join(self.fields)}. The file is damaged or of another task."
                )

    def _check_id(self, raw: Row, seen: set[Any]) -> None:
        key = (raw.get("file_name"), raw.get(self.id_field))
        if key[1] is not None and key in seen:
            raise DataError(
                f"{self.data_set}/{key[0]}: two rows have the {self.id_field} {key[1]!r}, expected each once. Correct "
                "the file."
            )
        seen.add(key)

    def question(self, row: Row) -> str:
        """The prompt of a row, without examples."""
        return self.prompt.render(row)

    def solved(self, row: Row) -> str:
        """A row as an example."""
        if self.target is not None:
            return self.question(row) + self.delimiter + self.target.render(row)
        right = self.options(row)[self._right(row)[0]]
        if self.continuation is not None:
            return right + self.delimiter + self.continuation.render(row)
        return self.question(row) + self.delimiter + right

    def options(self, row: Row) -> list[str]:
        """The texts to choose from.

        Raises:
            DataError: they are no list, or fewer than two.
        """
        assert self.choices is not None
        value = self.choices.value(row)
        if not isinstance(value, (list, tuple)) or len(value) < 2:
            raise DataError(
                f"{self.name}, choices: is {value!r}, expected a list of two texts or more. Correct the task."
            )
        return [str(choice) for choice in value]

    def gold_of(self, item: Item) -> list[Any]:
        """What is right: indices of the choices, or texts.

        Raises:
            DataError: there is no such choice.
        """
        part = self._part(item)
        return part._right(item.row) if part.kind == "choices" else part._right_texts(item.row)

    def _right(self, row: Row) -> list[int]:
        assert self.gold is not None
        value, num_options = self.gold.value(row), len(self.options(row))
        try:
            right = [int(each) for each in value] if isinstance(value, (list, tuple)) else [int(value)]
        except (TypeError, ValueError):
            right = []
        if not right or not all(0 <= each < num_options for each in right):
            raise DataError(
                f"{self.name}, gold: is {value!r}, expected the number of a choice, from 0 to {num_options - 1}. "
                "Correct the task, or the data."
            )
        return right

    def _right_texts(self, row: Row) -> list[str]:
        value = self.gold.value(row) if self.gold else []
        return [str(each) for each in value] if isinstance(value, (list, tuple)) else [str(value)]

    def requests(self, item: Item, before: str, *, chat: bool = False) -> list[Request]:
        """What the model is asked about an item.

        Args:
            item: The item.
            before: What precedes it: description and examples.
            chat: The answer is a message of its own, so nothing is between it and the question.
        """
        part = self._part(item)
        delimiter = "" if chat else part.delimiter
        if part.kind == "rolling":
            return [RollingRequest(part.question(item.row))]
        if part.kind == "generate":
            return [GenerateRequest(before + part.question(item.row), part.stop, part.max_tokens)]
        options = part.options(item.row)
        if part.continuation is not None:
            end = delimiter + part.continuation.render(item.row)
            return [ScoreRequest(before + beginning, end) for beginning in options]
        context = before + part.question(item.row)
        return [ScoreRequest(context, delimiter + option) for option in options]

    def score(self, item: Item, answers: Sequence[Answer]) -> dict[str, float]:
        """Each metric of one item, from the answers to its requests, in their order.

        Raises:
            BackendError: the model gave a number that is none.
        """
        part = self._part(item)
        scores = [answer for answer in answers if not isinstance(answer, str)]
        for score in scores:
            if math.isnan(score.logprob) or score.logprob == math.inf:
                raise BackendError(
                    f"{self.name}, item {item.item_id}: the model's log-probability is {score.logprob}, expected a "
                    "number. Weights or engine are broken; check them with `gemcut verify`, or try another dtype."
                )
        if part.kind == "rolling":
            return _text_sizes(part.question(item.row), scores[0])
        if part.kind == "generate":
            assert part.scorer is not None
            metrics = part.scorer.score(str(answers[0]), item.row, part._right_texts(item.row))
        else:
            answer = ChoiceAnswer(
                [score.logprob for score in scores], part.options(item.row), part._right(item.row), item.row
            )
            values = {name: CHOICE_METRICS[name](answer) for name in (*part.metrics, *part.counted)}
            metrics = {name: value for name, value in values.items() if value is not None}
        return self._labelled(item.row, metrics)

    def _labelled(self, row: Row, metrics: Mapping[str, float]) -> dict[str, float]:
        """The metrics, and each once more under every label of the row."""
        if self.labels is None:
            return dict(metrics)
        own = {name: value for name, value in metrics.items() if name in self.metrics}
        return own | {f"{name}_{label}": value for label in self.labels.value(row) for name, value in metrics.items()}

    def _part(self, item: Item) -> Task:
        return self.parts.get(item.subset, self) if item.subset is not None else self

    def aggregate(self, results: Sequence[ItemResult]) -> dict[str, Figure]:
        """The task's figures from those of its items."""
        return AGGREGATES[self.aggregate_name](results)

    def subset_figures(self, results: Sequence[ItemResult]) -> dict[str, dict[str, Figure]]:
        """The figures of each subset, in alphabetical order; empty where there are none."""
        subsets = sorted({result.subset for result in results if result.subset is not None})
        return {subset: self.aggregate([each for each in results if each.subset == subset]) for subset in subsets}


def _text_sizes(text: str, score: ChoiceScore | RollingScore) -> dict[str, float]:
    """What perplexity needs of a text; words are counted as lm-evaluation-harness counts them."""
    return {
        "logprob": score.logprob,
        "num_tokens": float(score.num_tokens),
        "num_words": float(row_functions.num_words(text)),
        "num_bytes": float(len(text.encode("utf-8"))),
    }


__all__ = [
    "Answer",
    "AnswerScorer",
    "ChoiceScore",
    "GenerateRequest",
    "Item",
    "Request",
    "RollingRequest",
    "RollingScore",
    "ScoreRequest",
    "ShotSource",
    "Task",
]
