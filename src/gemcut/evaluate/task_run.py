"""One task with one model: its items asked, scored and stored."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gemcut.evaluate.aggregate import Figure, ItemResult
from gemcut.evaluate.asker import Asker, Batch
from gemcut.evaluate.data import DataFolders
from gemcut.evaluate.encoding import Encoder
from gemcut.evaluate.item_store import ItemRecord, ItemStore
from gemcut.evaluate.task import Answer, Task
from gemcut.evaluate.task_questions import TaskQuestions, TaskSettings, key_of


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
    """A task that is asked.

    Args:
        task, settings, data, encoder: See `task_questions.TaskQuestions`.
        asker: Of the model.
        report: Told how far it is.

    Attributes:
        task, settings: As given.
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
        self._asked = TaskQuestions(
            task, settings, data, encoder, lambda done, total: report("encoding", done, total, 0, 0)
        )
        self._records: dict[int, ItemRecord] = {}  # by item
        self._answers: dict[int, Answer] = {}  # by question, of items that are not complete
        self._more_notes: list[str] = []

    def run(self, store: ItemStore, known: Sequence[Mapping[str, ItemRecord]], log_samples: bool) -> list[ItemResult]:
        """Ask what is not known yet; every answer is in the store before the next question is asked.

        Args:
            store: The task's file.
            known: Records of other runs of this very model.
            log_samples: Whether the store keeps the prompts, too.

        Returns:
            The scores of all items, in the order of the file.

        Raises:
            GemcutError: what the engine raised, and where the disk is full.
        """
        self._take_known(store, known)
        batches = self._asker.plan(self._asked.questions)
        missing = [batch for each in batches if (batch := self._without_known(each)).numbers]
        progress = _Meter(self._report, self._records, len(self._asked.items), missing)
        for batch in missing:
            for answered in self._asker.ask(self._asked.questions, batch.numbers):
                store.append([record for number, answer in answered for record in self._taken(number, answer)])
                progress.note([number for number, _ in answered])
        records = [self._with_samples(item, log_samples) for item in range(len(self._asked.items))]
        store.keep(records)
        self._seconds = time.perf_counter() - self._begin
        return [ItemResult(record.item_id, record.subset, record.metrics) for record in records]

    def _take_known(self, store: ItemStore, known: Sequence[Mapping[str, ItemRecord]]) -> None:
        """What was answered to the very same questions before; what was answered to others leaves the store."""
        places = [store.records, *known]
        kept: list[ItemRecord] = []
        for item, key in enumerate(self._asked.keys):
            record = _found(places, self._asked.items[item].item_id, key)
            if record is not None:
                # Scores are computed anew, unless that would run programs.
                again = record if self.task.executes_code else self._record(item, record.answers)
                self._records[item] = again
                kept.append(record)
            elif self._asked.is_in_parts(item):
                for number in self._asked.of_item[item]:
                    part = _found(places, *self._part(number))
                    if part is not None:
                        self._answers[number] = part.answers[0]
                        kept.append(part)
        own = [record for record in kept if store.records.get(record.item_id) is record]
        if len(own) < len(store.records):
            store.keep(own)
        if others := [record for record in kept if record.item_id not in store.records]:
            store.append(others)
            self._more_notes.append(f"{len(others)} items were answered in another run of this very model.")
        if 0 < len(self._records) < len(self._asked.items):
            self._more_notes.append(
                f"{len(self._records)} of {len(self._asked.items)} items had been answered before; the time is that of "
                "the others."
            )

    def _without_known(self, batch: Batch) -> Batch:
        """What of a batch is to be asked: all of it or nothing, where answers depend on what is asked beside them."""
        pairs = list(zip(batch.numbers, batch.costs, strict=True))
        missing = [pair for pair in pairs if self._is_missing(pair[0])]
        if missing and not self._asker.answers_alone:
            return batch
        return Batch(tuple(number for number, _ in missing), tuple(cost for _, cost in missing))

    def _is_missing(self, number: int) -> bool:
        return self._asked.item_of[number] not in self._records and number not in self._answers

    def _taken(self, number: int, answer: Answer) -> list[ItemRecord]:
        """What to store of an answer that came: its item, if that is complete, else itself, if it came alone."""
        if not self._is_missing(number):
            return []
        self._answers[number] = answer
        item = self._asked.item_of[number]
        numbers = self._asked.of_item[item]
        if all(each in self._answers for each in numbers):
            answers = self._asked.answers(item, [self._answers.pop(each) for each in numbers])
            self._records[item] = self._record(item, answers)
            self.num_computed += 1
            return [self._records[item]]
        if not self._asked.is_in_parts(item):
            return []
        name, key = self._part(number)
        return [ItemRecord(name, None, key, {}, (answer,))]

    def _record(self, number: int, answers: tuple[Answer, ...]) -> ItemRecord:
        item = self._asked.items[number]
        return ItemRecord(item.item_id, item.subset, self._asked.keys[number], self.task.score(item, answers), answers)

    def _part(self, number: int) -> tuple[str, str]:
        """Under which name and key the answer to a part of an item is stored until the item is complete."""
        item = self._asked.item_of[number]
        place = number - self._asked.of_item[item][0] + 1
        return f"{self._asked.items[item].item_id}, part {place}", key_of([self._asked.questions[number].encoded])

    def _with_samples(self, number: int, log_samples: bool) -> ItemRecord:
        """An item's record; with its prompts and what would have been right, if these are wanted."""
        record, item = self._records[number], self._asked.items[number]
        if not log_samples:
            return dataclasses.replace(record, more={})
        prompts = [dataclasses.asdict(request) for request in self._asked.requests[number]]
        return dataclasses.replace(record, more={"prompts": prompts, "gold": self.task.gold_of(item)})

    def facts(self, results: Sequence[ItemResult]) -> dict[str, Any]:
        """What results.json says of the task."""
        task = self.task
        return {
            "title": task.title,
            "kind": task.kind,
            "licence": task.licence,
            **dataclasses.asdict(self.settings),
            "num_items": len(self._asked.items),
            "num_total": self._asked.num_total,
            "num_computed": self.num_computed,
            "primary_metric": task.primary_metric,
            "metrics": _figures(task.aggregate(results)),
            "subsets": {name: _figures(figures) for name, figures in task.subset_figures(results).items()},
            "notes": [*task.notes, *self._asked.notes, *self._more_notes],
            "data": self._data_facts(),
            "seconds": round(self._seconds, 3),
            "bos_check": self._encoder.bos_check,
            "first_prompts": self._asked.first_prompts(),
        }

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
        self, report: Report, records: Mapping[int, ItemRecord], num_items: int, batches: Sequence[Batch]
    ) -> None:
        self._report, self._records, self._num_items = report, records, num_items
        self._costs = {
            number: cost for batch in batches for number, cost in zip(batch.numbers, batch.costs, strict=True)
        }
        self._num_tokens, self._done = sum(self._costs.values()), 0
        self.note([])

    def note(self, numbers: Sequence[int]) -> None:
        """Questions that were answered."""
        self._done += sum(self._costs[number] for number in numbers)
        self._report("asking", len(self._records), self._num_items, self._done, self._num_tokens)


def _found(places: Sequence[Mapping[str, ItemRecord]], name: str, key: str) -> ItemRecord | None:
    """The first record of that name that answers that question."""
    records = (place.get(name) for place in places)
    return next((record for record in records if record is not None and record.key == key), None)


def _figures(figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {name: dataclasses.asdict(figure) for name, figure in figures.items()}


__all__ = ["Progress", "TaskRun"]
