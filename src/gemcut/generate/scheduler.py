"""Which sequences run when: the one loop of every engine."""

from __future__ import annotations

import collections
import dataclasses
import math
import time
from collections.abc import Hashable, Iterator
from collections.abc import Sequence as AbstractSequence
from typing import Any

from gemcut.errors import BackendError, QueueFullError
from gemcut.generate.cache_budget import CacheBudget
from gemcut.generate.fair_queue import FairQueue
from gemcut.generate.pace import BURST_SECONDS, Pace
from gemcut.generate.runner import Part, Runner
from gemcut.generate.sequence import Sequence

MAX_RUNNING = 8
LONGEST_BURST = 32  # tokens asked of the engine at once when nobody watches
WATCHED_BURST = 8  # the same when pieces are shown as they come, or a stop string may end the text anywhere
FEW_TOKENS = 32  # waiting tokens of an answer that a pass always takes along; more are a prompt
MIN_SHARED_TOKENS = 16  # of a beginning that is worth waiting for


@dataclasses.dataclass(frozen=True, slots=True)
class Update:
    """What one step brought one sequence.

    Attributes:
        sequence: Which.
        text: Its new text, whole characters only; perhaps empty.
        token_ids: Its new tokens.
        logprobs: Their entries of `Completion.logprobs`; None unless asked for.
        finished: Whether it has ended; `sequence.finish_reason` says why.
    """

    sequence: Sequence
    text: str
    token_ids: list[int]
    logprobs: list[dict[str, Any]] | None
    finished: bool


@dataclasses.dataclass
class Counters:
    """What a scheduler has done since it was made.

    Attributes:
        prompt_tokens: Tokens of prompts that were computed.
        reused_tokens: Tokens of prompts that were known already.
        generated_tokens: Tokens of answers.
        finished: Ended sequences by finish reason.
    """

    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    finished: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


@dataclasses.dataclass
class _Shown:
    """What of a running sequence its updates have told."""

    characters: int = 0
    token_ids: int = 0
    num_generated: int = 0


class Scheduler:
    """Runs sequences on one engine. One thread owns it.

    Sequences begin in the order of `FairQueue`, but one whose beginning another one computes just now waits for it. Of
    several prompts half of a pass goes to the one with the least left, so that a long one does not hold up the short
    ones and they do not hold up it. Answers never wait for prompts.

    Args:
        runner: Drives the engine.
        max_running: Sequences that run side by side.
        max_waiting: Sequences that may wait beyond those; None for any number.
        cache_bytes: Memory that keys and values of all running sequences may take; None for what the machine has.

    Attributes:
        counters: What it has done.
        cache: What keys and values take now.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        max_running: int = MAX_RUNNING,
        max_waiting: int | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        self._runner = runner
        self._max_running, self._max_waiting = max_running, max_waiting
        self._queue = FairQueue()
        self._running: dict[Sequence, _Shown] = {}
        self._aborted: set[Sequence] = set()
        self._leaders: dict[Sequence, tuple[Sequence, int]] = {}
        self._pace = Pace()
        self._burst = 1
        self.cache = CacheBudget(cache_bytes)
        self.counters = Counters()

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(len(self._queue) or self._running)

    @property
    def num_running(self) -> int:
        """Sequences that run."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Sequences that wait for their turn."""
        return len(self._queue)

    def add(self, sequence: Sequence, *, client: Hashable = None, request: Hashable = None) -> None:
        """Put a sequence into the queue.

        Args:
            sequence: What is to run.
            client: Whose it is; clients take turns.
            request: Which of that client's requests it belongs to; these take turns, too.

        Raises:
            QueueFullError: as many wait as may.
            ContextLengthError: it would never fit the memory for keys and values.
        """
        free = max(self._max_running - len(self._running), 0)
        if self._max_waiting is not None and len(self._queue) >= self._max_waiting + free:
            raise QueueFullError(
                f"queue: {len(self._running)} texts run and {len(self._queue)} wait, expected at most "
                f"{self._max_running} and {self._max_waiting}. Ask again in a moment."
            )
        num_tokens = len(sequence.prompt_ids) + sequence.limit
        self.cache.check(self._runner.sequence_bytes(sequence), num_tokens)
        self._queue.add(sequence, client, request)

    def abort(self, sequence: Sequence) -> None:
        """End a sequence at the next step, wherever it is; nothing happens to one that is not there."""
        if sequence in self._running or sequence in self._queue:
            self._aborted.add(sequence)

    def step(self, longest_burst: int = WATCHED_BURST, burst_seconds: float = BURST_SECONDS) -> list[Update]:
        """One pass of the engine, or a few where no prompt waits for one.

        An exception of the engine ends the sequences it met, with finish_reason "error"; the others go on.

        Args:
            longest_burst: Tokens of one text that may come at once.
            burst_seconds: What they may take, about.

        Returns:
            What is new: of those that got tokens and of those that ended.
        """
        updates = self._end_early() + self._admit()
        if not self._running:
            return updates
        parts, num_steps = self._plan(longest_burst, burst_seconds)
        before = [sequence.num_generated for sequence, _ in parts]
        begin = time.perf_counter()
        try:
            self._runner.run(parts, num_steps)
        except Exception as error:  # noqa: BLE001 - whatever it is, the texts of other passes go on
            for sequence, _ in parts:
                sequence.end("error", error)
        num_chosen = max(sequence.num_generated - old for (sequence, _), old in zip(parts, before, strict=True))
        prompt_tokens = sum(count for _, count in parts if count > 1)
        self._pace.note(prompt_tokens, num_chosen, time.perf_counter() - begin)
        for (sequence, _), old in zip(parts, before, strict=True):
            if sequence.num_generated > old or sequence.finish_reason:
                updates.append(self._update(sequence))
        return updates

    def run(self, sequences: AbstractSequence[Sequence]) -> None:
        """Generate until every sequence is finished.

        Raises:
            GemcutError: what the engine raised; the others are finished all the same.
        """
        # Where a group ends together, sequences of similar length share it, so little is computed for padding.
        by_length = (
            sequences if self._runner.is_continuous else sorted(sequences, key=lambda each: len(each.prompt_ids))
        )
        for sequence in by_length:
            self.add(sequence)
        while self.has_work:
            self.step(LONGEST_BURST, math.inf)
        for sequence in sequences:
            if sequence.error:
                raise sequence.error

    def stream(self, sequence: Sequence) -> Iterator[str]:
        """Generate one sequence; yields its new text (perhaps empty) after each burst.

        Raises:
            GemcutError: what the engine raised.
        """
        self.add(sequence)
        while self.has_work:
            for update in self.step(WATCHED_BURST, math.inf):
                if sequence.error:
                    raise sequence.error
                yield update.text

    def _end_early(self) -> list[Update]:
        """End what was aborted, and what is too late."""
        updates, now = [], time.monotonic()
        for sequence in [*self._running, *self._queue]:
            if sequence in self._aborted:
                sequence.end("cancelled")
            elif sequence.deadline is not None and now >= sequence.deadline:
                sequence.end("timeout")
            if sequence.finish_reason:
                updates.append(self._update(sequence))
        self._aborted.clear()
        return updates

    def _admit(self) -> list[Update]:
        """Let begin whom there is room for; returns what that brought."""
        updates = []
        waiting = self._queue.in_turn() if len(self._running) < self._max_running else []
        while waiting and len(self._running) < self._max_running:
            sequence = waiting.pop(0)
            num_bytes = self._runner.sequence_bytes(sequence)
            if not self.cache.has_room(num_bytes) or not self._runner.admits(sequence):
                break
            if self._waits_for_leader(sequence):
                continue
            try:
                self._runner.begin(sequence)
            except Exception as error:  # noqa: BLE001 - it is this text's own
                if isinstance(error, BackendError) and self._running:
                    break  # memory that lacks now may be there when another has ended
                sequence.end("error", error)
            self._queue.begin(sequence)
            self._running[sequence] = _Shown()
            self.cache.take(sequence, num_bytes)
            self.counters.reused_tokens += sequence.num_reused
            self._burst = 1
            if sequence.num_generated or sequence.finish_reason:
                updates.append(self._update(sequence))
            waiting = self._queue.in_turn(waiting)
        return updates

    def _waits_for_leader(self, sequence: Sequence) -> bool:
        """Whether another one is about to compute a beginning that this one can then take over."""
        if not self._runner.shares_prompts:
            return False
        leader, shared = self._leaders.pop(sequence, (None, 0))
        if leader is None or leader not in self._running or self._num_stored(leader) >= shared:
            leader = None
            for other in self._running:
                shared = common_prefix(other.prompt_ids, sequence.prompt_ids[:-1])
                if shared >= MIN_SHARED_TOKENS and self._num_stored(other) < shared:
                    leader = other
                    break
        if leader is not None:
            self._leaders[sequence] = (leader, shared)
        return leader is not None

    def _num_stored(self, sequence: Sequence) -> int:
        """Tokens of a running sequence that are computed."""
        return len(sequence.prompt_ids) + sequence.num_generated - self._runner.num_waiting(sequence)

    def _plan(self, longest_burst: int, burst_seconds: float) -> tuple[list[Part], int]:
        """Who takes part in the next pass, with how many of its waiting tokens, and how many tokens each then gets."""
        waiting = {sequence: self._runner.num_waiting(sequence) for sequence in self._running}
        remaining = [left for sequence in self._running if (left := sequence.remaining)]
        # An engine that is not continuous computes ended rows on, but not beyond the last one's end.
        num_steps = min(self._burst, min(remaining) if self._runner.is_continuous else max(remaining))
        if any(count > 1 for count in waiting.values()) or any(sequence.is_masked for sequence in waiting):
            num_steps = 1
        if any(sequence.options.stop for sequence in waiting):
            longest_burst = min(longest_burst, WATCHED_BURST)
        num_steps = min(num_steps, self._pace.num_steps(longest_burst, burst_seconds))
        self._burst = min(num_steps * 2, longest_burst)
        if not self._runner.is_continuous:
            return list(waiting.items()), num_steps
        parts = [(sequence, count) for sequence, count in waiting.items() if count <= FEW_TOKENS]
        prompts = [(sequence, count) for sequence, count in waiting.items() if count > FEW_TOKENS]
        room = self._pace.prompt_tokens(sum(count for _, count in parts))
        return parts + _shared_out(prompts, room), num_steps

    def _update(self, sequence: Sequence) -> Update:
        """What is new of a sequence; one that has ended leaves."""
        shown = self._running.get(sequence, _Shown())
        text, token_ids = sequence.text[shown.characters :], sequence.token_ids[shown.token_ids :]
        logprobs = None if sequence.logprobs is None else sequence.logprobs[shown.token_ids :]
        if not shown.num_generated and sequence.num_generated:
            self.counters.prompt_tokens += len(sequence.prompt_ids) - sequence.num_reused
        self.counters.generated_tokens += sequence.num_generated - shown.num_generated
        shown.characters, shown.token_ids = len(sequence.text), len(sequence.token_ids)
        shown.num_generated = sequence.num_generated
        if sequence.finish_reason:
            self._leave(sequence)
        return Update(sequence, text, token_ids, logprobs, sequence.finish_reason is not None)

    def _leave(self, sequence: Sequence) -> None:
        """Forget a sequence that has ended."""
        self.counters.finished[sequence.finish_reason or ""] += 1
        self._leaders.pop(sequence, None)
        self._queue.end(sequence)
        if self._running.pop(sequence, None) is not None:
            self._runner.leave(sequence)
            self.cache.give_back(sequence)


def _shared_out(prompts: list[Part], room: int) -> list[Part]:
    """How many tokens of each prompt a pass computes: half of the room is the first one's, the rest the shortest's."""
    if not prompts:
        return []
    counts = dict.fromkeys((sequence for sequence, _ in prompts), 0)
    for (sequence, count), most in [(prompts[0], room // 2), *((each, room) for each in sorted(prompts, key=_length))]:
        given = min(count - counts[sequence], most, room)
        counts[sequence] += given
        room -= given
    return [(sequence, count) for sequence, count in counts.items() if count]


def _length(part: Part) -> int:
    return part[1]


def common_prefix(one: AbstractSequence[int], other: AbstractSequence[int]) -> int:
    """Tokens that two texts have in common at their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # all before `low` are equal; the first difference, if any, is before `high`
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
