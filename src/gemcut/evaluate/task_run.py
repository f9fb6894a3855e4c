"""One task with one model: its items made ready, asked, scored and stored."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gemcut.evaluate.aggregate import Figure, ItemResult
from gemcut.evaluate.asker import Asker, Batch, Question
from gemcut.evaluate.data import DataFolders
from gemcut.evaluate.encoding import Encoded, EncodedPrompt, EncodedScore, EncodedText, Encoder
from gemcut.evaluate.examples import ExampleSet, Sampling
from gemcut.evaluate.item_store import ItemRecord, ItemStore
from gemcut.evaluate.task import Answer, Item, Request, Task

NUM_FIRST_PROMPTS = 3


@dataclasses.dataclass(frozen=True)
class TaskSettings:
    """How a task is asked.

    Attributes:
        num_shots: Solved examples before each question.
        limit: Items asked, the first of the file; None for all.
        seed: Of the draw of fixed examples.
        shot_sampling: "fixed", or "lm-eval" for examples of each item's own.
        chat, system: See `encoding.Encoder`.
    """

    num_shots: int
    limit: int | None = None
    seed: int = 0
    shot_sampling: Sampling = "fixed"
    chat: bool = False
    system: str | None = None


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        task: The name of the task.
        stage: "encoding", then "asking".
        number, num_tasks: Which of how many tasks, from 1.
        num_done, num_items: Items that are done, and all of the task.
        tokens_done, num_tokens: Of what has to be computed in this run, about: what time left is reckoned from.
    """

    task: str
    stage: str
    number: int
    num_tasks: int
    num_done: int
    num_items: int
    tokens_done: int = 0
    num_tokens: int = 0


Report = Callable[[str, int, int, int, int], None]  # stage, then the last four of Progress


class TaskRun:
    """A task whose items are made ready for one model.

    Args:
        task: The task.
        settings: How it is asked.
        data: Where its rows are.
        encoder, asker: Of the model.
        report: Told how far it is.

    Attributes:
        task, settings: As given.
        items: Those that are asked, in the order of the file.
        num_total: How many there are without a limit.
        num_computed: Items that were asked in this run; the others' answers were known.

    Raises:
        DataError, NotFoundError, UsageError: of the task, its data, examples and prompts.
    """

    def __init__(
        self, task: Task, settings: TaskSettings, data: DataFolders, encoder: Encoder, asker: Asker, report: Report
    ) -> None:
        self._begin, self._seconds = time.perf_counter(), 0.0
        self.task, self.settings, self.num_computed = task, settings, 0
        self._data, self._encoder, self._asker, self._report = data, encoder, asker, report
        self._examples = ExampleSet(task, data, settings.num_shots, settings.seed, settings.shot_sampling)
        items = task.items(data, self._examples.held_out)
        self.num_total = len(items)
        self.items: list[Item] = items[: settings.limit]
        self._questions: list[Question] = []
        self._requests: list[list[Request]] = []
        self._groups: dict[str, int] = {}
        for number, item in enumerate(self.items):
            self._add(number, item)
            if number % 64 == 0:
                report("encoding", number, len(self.items), 0, 0)
        self._of_item: list[list[int]] = [[] for _ in self.items]
        for number, question in enumerate(self._questions):
            self._of_item[question.item].append(number)
        self._keys = [_key([self._questions[number].encoded for number in numbers]) for numbers in self._of_item]
        self._more_notes: list[str] = []

    def _add(self, number: int, item: Item) -> None:
        before = self._examples.before(item)
        requests = self.task.requests(item, before, chat=self.settings.chat)
        group = self._groups.setdefault(before, len(self._groups))
        where = f"{self.task.name}, item {item.item_id}"
        for request in requests:
            encoded = self._encoder.encode(request, where, before)
            self._questions.append(Question(encoded, number, group, where))
        self._requests.append(requests)

    def run(self, store: ItemStore, known: Sequence[Mapping[str, ItemRecord]], log_samples: bool) -> list[ItemResult]:
        """Ask what is not known yet; every score is in the store before the next question is asked.

        Args:
            store: The task's file.
            known: Records of other runs of this very model.
            log_samples: Whether the store keeps the prompts, too.

        Returns:
            The scores of all items, in the order of the file.

        Raises:
            GemcutError: what the engine raised, and where the disk is full.
        """
        records = self._known_records([store.records, *known])
        valid = {record.item_id: record.key for record in records.values()}
        if any(valid.get(record.item_id) != record.key for record in store.records.values()):
            store.keep(record for record in store.records.values() if valid.get(record.item_id) == record.key)
        if taken_over := [each for each in records.values() if each.item_id not in store.records]:
            store.append(taken_over)
            self._more_notes.append(f"{len(taken_over)} items were answered in another run of this very model.")
        if 0 < len(records) < len(self.items):
            self._more_notes.append(
                f"{len(records)} of {len(self.items)} items had been answered before; the time is that of the others."
            )
        batches = self._asker.plan(self._questions)
        missing = [batch for each in batches if (batch := self._without_known(each, records)).numbers]
        progress = _Meter(self._report, records, self.items, missing)
        for batch in missing:
            answers: dict[int, dict[int, Answer]] = {}
            for answered in self._asker.ask(self._questions, batch.numbers):
                new = self._scored(answered, answers, records)
                store.append(new)
                self.num_computed += len(new)
                progress.note([number for number, _ in answered])
        ordered = [self._with_samples(number, records[number], log_samples) for number in range(len(self.items))]
        store.keep(ordered)
        self._seconds = time.perf_counter() - self._begin
        return [ItemResult(record.item_id, record.subset, record.metrics) for record in ordered]

    def _known_records(self, places: Sequence[Mapping[str, ItemRecord]]) -> dict[int, ItemRecord]:
        """By item: what was answered to the very same question, scored anew unless that would run programs."""
        found = {}
        for number, item in enumerate(self.items):
            records = (place.get(item.item_id) for place in places)
            record = next((each for each in records if each and each.key == self._keys[number]), None)
            if record is None:
                continue
            if not self.task.executes_code:
                record = self._record(number, record.answers)
            found[number] = record
        return found

    def _without_known(self, batch: Batch, records: Mapping[int, ItemRecord]) -> Batch:
        """What of a batch is to be asked: all of it or nothing, where answers depend on what is asked beside them."""
        is_missing = [self._questions[number].item not in records for number in batch.numbers]
        if any(is_missing) and not self._asker.answers_alone:
            return batch
        kept = [
            pair
            for pair, is_kept in zip(zip(batch.numbers, batch.costs, strict=True), is_missing, strict=True)
            if is_kept
        ]
        return Batch(tuple(number for number, _ in kept), tuple(cost for _, cost in kept))

    def _scored(
        self,
        answered: Sequence[tuple[int, Answer]],
        answers: dict[int, dict[int, Answer]],
        records: dict[int, ItemRecord],
    ) -> list[ItemRecord]:
        """Records of the items whose last answer came now."""
        new = []
        for number, answer in answered:
            item = self._questions[number].item
            given = answers.setdefault(item, {})
            given[number] = answer
            if len(given) == len(self._of_item[item]) and item not in records:
                records[item] = self._record(item, tuple(given[each] for each in self._of_item[item]))
                new.append(records[item])
        return new

    def _record(self, number: int, answers: tuple[Answer, ...]) -> ItemRecord:
        item = self.items[number]
        return ItemRecord(item.item_id, item.subset, self._keys[number], self.task.score(item, answers), answers)

    def _with_samples(self, number: int, record: ItemRecord, log_samples: bool) -> ItemRecord:
        """The record with its prompts and what would have been right."""
        if not log_samples:
            return dataclasses.replace(record, more={})
        prompts = [dataclasses.asdict(request) for request in self._requests[number]]
        return dataclasses.replace(record, more={"prompts": prompts, "gold": self.task.gold_of(self.items[number])})

    def facts(self, results: Sequence[ItemResult]) -> dict[str, Any]:
        """What results.json says of the task."""
        task = self.task
        return {
            "title": task.title,
            "kind": task.kind,
            "licence": task.licence,
            **dataclasses.asdict(self.settings),
            "num_items": len(self.items),
            "num_total": self.num_total,
            "num_computed": self.num_computed,
            "primary_metric": task.primary_metric,
            "metrics": _figures(task.aggregate(results)),
            "subsets": {name: _figures(figures) for name, figures in task.subset_figures(results).items()},
            "notes": [*task.notes, *self._examples.notes, *self._notes(), *self._more_notes],
            "data": self._data_facts(),
            "seconds": round(self._seconds, 3),
            "bos_check": self._encoder.bos_check,
            "first_prompts": self._first_prompts(),
        }

    def _notes(self) -> list[str]:
        """What a reader must know of the prompts."""
        cut = [question.encoded.num_cut for question in self._questions if question.encoded.num_cut]
        if not cut:
            return []
        return [
            f"{len(cut)} of {len(self._questions)} prompts did not fit the model's context of {self._encoder.context} "
            f"tokens; up to {max(cut)} tokens were cut from their left, BOS stayed."
        ]

    def _first_prompts(self) -> list[dict[str, Any]]:
        found = []
        for item, numbers in zip(self.items[:NUM_FIRST_PROMPTS], self._of_item, strict=False):
            token_ids = self._questions[numbers[0]].encoded.token_ids.tolist()
            found.append({"item_id": item.item_id, "token_ids": token_ids, "text": self._encoder.text_of(token_ids)})
        return found

    def _data_facts(self) -> dict[str, Any]:
        """Which files were scored; a task that has its rows in itself has none."""
        if self.task.given_rows is not None:
            rows = json.dumps(self.task.given_rows, sort_keys=True, default=str).encode()
            return {"set": self.task.data_set, "file": None, "sha256": hashlib.sha256(rows).hexdigest()}
        digests = {file: self._data.digest(self.task.data_set, file) for file in self.task.files}
        first = self.task.files[0]
        facts = {"set": Path(self.task.data_set).name, "file": first, "sha256": digests[first]}
        return facts if len(digests) == 1 else {**facts, "files": digests}


class _Meter:
    """Tells how much of a task is done."""

    def __init__(
        self, report: Report, records: Mapping[int, ItemRecord], items: Sequence[Item], batches: Sequence[Batch]
    ) -> None:
        self._report, self._records, self._num_items = report, records, len(items)
        self._costs = {
            number: cost for batch in batches for number, cost in zip(batch.numbers, batch.costs, strict=True)
        }
        self._num_tokens, self._done = sum(self._costs.values()), 0
        self.note([])

    def note(self, numbers: Sequence[int]) -> None:
        """Questions that were answered."""
        self._done += sum(self._costs[number] for number in numbers)
        self._report("asking", len(self._records), self._num_items, self._done, self._num_tokens)


def _figures(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: dataclasses.asdict(figure) for name, figure in figures.items()}


def _key(requests: Sequence[Encoded]) -> str:
    """A digest of what an item asks, token for token."""
    digest = hashlib.sha256()
    for request in requests:
        if isinstance(request, EncodedScore):
            parts = [(request.token_ids, len(request.continuation))]
            what: tuple[Any, ...] = ("score",)
        elif isinstance(request, EncodedPrompt):
            parts, what = [(request.token_ids, 0)], ("greedy", request.stop, request.max_tokens)
        else:
            assert isinstance(request, EncodedText)
            parts, what = list(request.windows), ("rolling",)
        digest.update(repr((what, [(len(row), count) for row, count in parts])).encode())
        for row, _ in parts:
            digest.update(row.astype("<i4").tobytes())
    return digest.hexdigest()[:32]


__all__ = ["Progress", "TaskRun", "TaskSettings"]
