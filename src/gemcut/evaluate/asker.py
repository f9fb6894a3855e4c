"""From encoded requests to a model's answers: in an order in which neighbours share most, in calls that fit memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from gemcut.config.parameters import num_parameters
from gemcut.engine import engine_facts, is_built
from gemcut.errors import BackendError, GemcutError
from gemcut.evaluate.encoding import Encoded, EncodedPrompt, EncodedScore, EncodedText
from gemcut.evaluate.task import Answer, ChoiceScore, RollingScore
from gemcut.generate.scheduler import LONGEST_BURST
from gemcut.generate.sequence import Sequence as Text
from gemcut.generate.text_model import TextModel
from gemcut.interfaces import ContinuousModel, LanguageModel

CALL_WORK = 5 << 38  # of one call, in parameters times tokens, about: some seconds, which a killed run loses
CALL_TOKENS = (512, 2048)  # of one call, at least and at most
CALL_ROWS = 32  # of one call of an engine that computes rows of one length
RUNNING = 32  # prompts that are answered side by side
_MEMORY_SHARE = 0.4  # of what is free, for keys and values of one call
_UNKNOWN_MEMORY = 4 << 30  # taken as free where the system does not tell


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Question:
    """One request of an item.

    Attributes:
        encoded: The request.
        unit: Number of what is asked together; its questions stand together.
        group: Questions of one group begin alike.
        where: The item, for errors.
    """

    encoded: Encoded
    unit: int
    group: int
    where: str


@dataclasses.dataclass(frozen=True)
class Batch:
    """Questions that are asked together.

    Attributes:
        numbers: Theirs, units whole.
        costs: Tokens that each takes to compute, about.
    """

    numbers: tuple[int, ...]
    costs: tuple[int, ...]


class Asker:
    """Asks one model.

    Args:
        model: The model.
        call_tokens: Tokens of one call, about; None for what takes some seconds.

    Attributes:
        answers_alone: Whether an answer is the same to the last bit whatever is asked beside it.
    """

    def __init__(self, model: TextModel, *, call_tokens: int | None = None) -> None:
        self._model, self._engine = model, model.engine_model
        least, most = CALL_TOKENS
        self._call_tokens = call_tokens or min(max(CALL_WORK // num_parameters(model.config), least), most)
        self.answers_alone = self._is_continuous = isinstance(self._engine, ContinuousModel)
        self._free_bytes = _free_bytes(self._engine)

    def plan(self, questions: Sequence[Question]) -> list[Batch]:
        """What is asked together, in order; it depends on all questions, so that it is the same in every run."""
        if not questions:
            return []
        units: dict[int, list[int]] = {}
        for number, question in enumerate(questions):
            units.setdefault(question.unit, []).append(number)
        keys = {unit: self._place(questions[numbers[0]]) for unit, numbers in units.items()}
        batches: list[Batch] = []
        numbers, costs, num_tokens, last = list[int](), list[int](), 0, np.zeros(0, np.int32)
        for unit in sorted(units, key=keys.__getitem__):
            new = []
            for number in units[unit]:
                token_ids = questions[number].encoded.token_ids
                new.append(self._cost(questions[number].encoded, num_shared(token_ids, last)))
                last = token_ids
            if numbers and not self._has_room(questions, numbers, units[unit], num_tokens + sum(new)):
                batches.append(Batch(tuple(numbers), tuple(costs)))
                numbers, costs, num_tokens = [], [], 0
            numbers += units[unit]
            costs += new
            num_tokens += sum(new)
        return [*batches, Batch(tuple(numbers), tuple(costs))]

    def ask(self, questions: Sequence[Question], numbers: Collection[int]) -> Iterator[list[tuple[int, Answer]]]:
        """Answers to some of the questions, as they come.

        Args:
            questions: All.
            numbers: Which; those of one batch.

        Yields:
            Numbers and answers.

        Raises:
            BackendError: a log-probability is no number; the message names the item.
            GemcutError: what the engine raised, with the item where it is one's.
        """
        scores = [number for number in numbers if isinstance(questions[number].encoded, EncodedScore)]
        if scores:
            yield self._scores(questions, scores)
        texts = [number for number in numbers if isinstance(questions[number].encoded, EncodedText)]
        for number in texts:
            yield [(number, self._rolling(questions[number]))]
        prompts = [number for number in numbers if isinstance(questions[number].encoded, EncodedPrompt)]
        if prompts:
            yield from self._generated(questions, prompts)

    def _place(self, question: Question) -> tuple[str, int, int | bytes]:
        """Where a unit stands: with its kind, then its group; there by what it begins with, or by length if padded."""
        token_ids = question.encoded.token_ids
        place = token_ids.astype(">i4").tobytes() if self._is_continuous else len(token_ids)
        return type(question.encoded).__name__, question.group, place

    def _cost(self, encoded: Encoded, num_known: int) -> int:
        """Tokens to compute for a request of whose text so many are known."""
        if isinstance(encoded, EncodedText):
            return sum(len(row) for row, _ in encoded.windows)
        if isinstance(encoded, EncodedPrompt):
            return len(encoded.token_ids) - num_known + encoded.max_tokens
        return len(encoded.context) + len(encoded.continuation) - num_known

    def _has_room(
        self, questions: Sequence[Question], numbers: Sequence[int], more: Sequence[int], num_tokens: int
    ) -> bool:
        """Whether a call has room for more questions, `num_tokens` being the tokens of all."""
        kind = type(questions[numbers[0]].encoded)
        if kind is not type(questions[more[0]].encoded):
            return False
        if self._is_continuous:  # prompts come and go by themselves
            return kind is EncodedPrompt or num_tokens <= self._call_tokens
        longest = max(_max_tokens(questions[number].encoded) for number in (*numbers, *more))
        return len(numbers) + len(more) <= max(min(CALL_ROWS, self._rows_that_fit(longest)), 1)

    def _rows_that_fit(self, num_tokens: int) -> int:
        """Texts of so many tokens whose keys and values fit the memory; twice their size, for engines round it up."""
        config = self._model.config
        number_bytes = 4 if self._model.dtype == "float32" else 2
        width = config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        return int(self._free_bytes * _MEMORY_SHARE / (2 * 2 * number_bytes * width * num_tokens))

    def _scores(self, questions: Sequence[Question], numbers: Sequence[int]) -> list[tuple[int, Answer]]:
        encoded = [each for number in numbers if isinstance(each := questions[number].encoded, EncodedScore)]
        rows = [each.token_ids.tolist() for each in encoded]
        found = self._engine.score_continuations(rows, [len(each.continuation) for each in encoded])
        return [
            (number, ChoiceScore(_sum(score.logprobs, questions[number].where), len(score.logprobs), score.is_greedy))
            for number, score in zip(numbers, found, strict=True)
        ]

    def _rolling(self, question: Question) -> RollingScore:
        encoded = question.encoded
        assert isinstance(encoded, EncodedText)
        total = 0.0
        for row, num_scored in encoded.windows:
            [score] = self._engine.score_continuations([row.tolist()], [num_scored])
            total += _sum(score.logprobs, question.where)
        return RollingScore(total, encoded.num_tokens)

    def _generated(self, questions: Sequence[Question], numbers: Sequence[int]) -> Iterator[list[tuple[int, Answer]]]:
        """Answers to prompts; a few wait for their turn in the scheduler, the others outside."""
        scheduler = self._model.new_scheduler(max_running=RUNNING)
        waiting, running = list(reversed(numbers)), dict[Text, int]()
        while waiting or running:
            while waiting and scheduler.num_waiting < RUNNING and (self._is_continuous or not scheduler.num_running):
                number = waiting.pop()
                text = self._text(questions[number])
                running[text] = number
                scheduler.add(text)
            ended = [update.sequence for update in scheduler.step(LONGEST_BURST, math.inf) if update.finished]
            answered = [(running.pop(text), text) for text in ended]
            if answered:
                yield [(number, _answer(text, questions[number].where)) for number, text in answered]

    def _text(self, question: Question) -> Text:
        encoded = question.encoded
        assert isinstance(encoded, EncodedPrompt)
        # Engines that are not continuous do not look whether what they choose from are numbers.
        logprobs = None if self._is_continuous else 0
        try:
            return self._model.new_sequence(
                encoded.token_ids.tolist(), max_tokens=encoded.max_tokens, stop=encoded.stop, logprobs=logprobs
            )
        except GemcutError as error:
            raise _named(error, question.where) from None


def _free_bytes(engine: LanguageModel) -> int:
    """Memory that is left where an engine computes."""
    told: Callable[[], int | None] | None = getattr(engine, "free_bytes", None)
    free = told() if told else None
    if free is None and engine.device == "cpu" and is_built():
        free = int(engine_facts()["available_memory_bytes"])
    return _UNKNOWN_MEMORY if free is None else free


def num_shared(one: np.ndarray, other: np.ndarray) -> int:
    """Tokens that two texts have in common at their beginning."""
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    return int(differs.argmax()) if differs.any() else length


def _max_tokens(encoded: Encoded) -> int:
    """Tokens that a request's longest text may have."""
    if isinstance(encoded, EncodedText):
        return max(len(row) for row, _ in encoded.windows)
    return len(encoded.token_ids) + (encoded.max_tokens if isinstance(encoded, EncodedPrompt) else 0)


def _sum(logprobs: np.ndarray, where: str) -> float:
    if not np.isfinite(logprobs).all():
        raise _no_number(float(logprobs[~np.isfinite(logprobs)][0]), where)
    return float(logprobs.sum(dtype=np.float64))


def _answer(text: Text, where: str) -> str:
    """What a finished text says."""
    if text.error is not None:
        raise _named(text.error, where) from None
    for entry in text.logprobs or ():
        if not math.isfinite(entry["logprob"]):
            raise _no_number(entry["logprob"], where)
    return text.text


def _no_number(value: float, where: str) -> BackendError:
    return BackendError(
        f"{where}: the model's log-probability is {value}, expected a finite number. Its weights or its engine are "
        "broken; check them with `gemcut verify`, or try --dtype float32."
    )


def _named(error: Exception, where: str) -> Exception:
    """An engine's error with the item that it met."""
    return type(error)(f"{where}: {error}") if isinstance(error, GemcutError) else error


__all__ = ["Asker", "Batch", "Question"]
