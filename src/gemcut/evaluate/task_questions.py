"""A task's items as questions for one model: what is asked of each, token for token."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from gemcut.evaluate.asker import Question
from gemcut.evaluate.data import DataFolders
from gemcut.evaluate.encoding import Encoded, EncodedPrompt, EncodedScore, EncodedText, Encoder
from gemcut.evaluate.examples import ExampleSet, Sampling
from gemcut.evaluate.task import Answer, Item, Request, RollingScore, Task

NUM_FIRST_PROMPTS = 3
_REPORTED = 64  # items between two reports


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


class TaskQuestions:
    """A task whose items are made ready for one model.

    Args:
        task: The task.
        settings: How it is asked.
        data: Where its rows are.
        encoder: Of the model.
        report: Told how many items are ready, and how many there are.

    Attributes:
        items: Those that are asked, in the order of the file.
        num_total: How many there are without a limit.
        questions: All of them. A long text is several, a window each, for which it need not be asked at once.
        item_of: The item of each question, by numbers.
        of_item: The questions of each item.
        requests: The requests of each item.
        keys: A digest of what each item asks, token for token.
        notes: What a reader must know of examples and prompts.

    Raises:
        DataError, NotFoundError, UsageError: of the task, its data, examples and prompts.
    """

    def __init__(
        self,
        task: Task,
        settings: TaskSettings,
        data: DataFolders,
        encoder: Encoder,
        report: Callable[[int, int], None] = lambda *_: None,
    ) -> None:
        self._task, self._encoder, self._is_chat = task, encoder, settings.chat
        self._examples = ExampleSet(task, data, settings.num_shots, settings.seed, settings.shot_sampling)
        items = task.items(data, self._examples.held_out)
        self.num_total = len(items)
        self.items: list[Item] = items[: settings.limit]
        self.questions: list[Question] = []
        self.item_of: list[int] = []
        self.of_item: list[list[int]] = []
        self.requests: list[list[Request]] = []
        self.keys: list[str] = []
        self._groups: dict[str, int] = {}
        self._num_windows = 0
        for number, item in enumerate(self.items):
            self._add(number, item)
            if number % _REPORTED == 0:
                report(number, len(self.items))

    def _add(self, number: int, item: Item) -> None:
        before = self._examples.before(item)
        requests = self._task.requests(item, before, chat=self._is_chat)
        group = self._groups.setdefault(before, len(self._groups))
        where, first = f"{self._task.name}, item {item.item_id}", len(self.questions)
        encoded = [self._encoder.encode(request, where, before) for request in requests]
        for each in encoded:
            self.questions += self._windows(each, group, where) or [Question(each, number, group, where)]
        self.of_item.append(list(range(first, len(self.questions))))
        self.item_of += [number] * (len(self.questions) - first)
        self.requests.append(requests)
        self.keys.append(key_of(encoded))

    def _windows(self, encoded: Encoded, group: int, where: str) -> list[Question]:
        """The windows of a text that has several, as questions; nothing for other requests."""
        if not isinstance(encoded, EncodedText) or len(encoded.windows) < 2:
            return []
        first = len(self.items) + self._num_windows
        self._num_windows += len(encoded.windows)
        return [
            Question(EncodedText((window,), window[1]), first + place, group, where)
            for place, window in enumerate(encoded.windows)
        ]

    def is_in_parts(self, item: int) -> bool:
        """Whether an item is asked in several parts, each of which may be answered at another time."""
        numbers = self.of_item[item]
        return self.questions[numbers[0]].unit != self.questions[numbers[-1]].unit

    def answers(self, item: int, answers: Sequence[Answer]) -> tuple[Answer, ...]:
        """The answers to an item's requests out of those to its questions."""
        if not self.is_in_parts(item):
            return tuple(answers)
        parts = [answer for answer in answers if isinstance(answer, RollingScore)]
        total, num_tokens = sum(each.logprob for each in parts), sum(each.num_tokens for each in parts)
        return (RollingScore(total, num_tokens),)

    @property
    def notes(self) -> list[str]:
        """See the class."""
        cut = [question.encoded.num_cut for question in self.questions if question.encoded.num_cut]
        if not cut:
            return list(self._examples.notes)
        return [
            *self._examples.notes,
            f"{len(cut)} of {len(self.questions)} prompts did not fit the model's context of {self._encoder.context} "
            f"tokens; up to {max(cut)} tokens were cut from their left, BOS stayed.",
        ]

    def first_prompts(self) -> list[dict[str, Any]]:
        """The first question of each of the first items: its token ids, and what they say."""
        found = []
        for item, numbers in zip(self.items[:NUM_FIRST_PROMPTS], self.of_item, strict=False):
            token_ids = self.questions[numbers[0]].encoded.token_ids.tolist()
            found.append({"item_id": item.item_id, "token_ids": token_ids, "text": self._encoder.text_of(token_ids)})
        return found


def key_of(requests: Sequence[Encoded]) -> str:
    """A digest of what is asked, token for token."""
    digest = hashlib.sha256()
    for request in requests:
        if isinstance(request, EncodedScore):
            parts = [(request.token_ids, len(request.continuation))]
            what: tuple[Any, ...] = ("score",)
        elif isinstance(request, EncodedPrompt):
            parts, what = [(request.token_ids, 0)], ("greedy", request.stop, request.max_tokens)
        else:
            parts, what = list(request.windows), ("rolling",)
        digest.update(repr((what, [(len(row), count) for row, count in parts])).encode())
        for row, _ in parts:
            digest.update(row.astype("<i4").tobytes())
    return digest.hexdigest()[:32]


__all__ = ["TaskQuestions", "TaskSettings", "key_of"]
