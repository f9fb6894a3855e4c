"""The one thread that owns the schedulers, and how the event loop talks with it."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, TypeVar

from gemcut.errors import BackendError, GemcutError
from gemcut.generate.scheduler import Scheduler, Update
from gemcut.generate.sequence import Sequence as TextSequence
from gemcut.serve.errors import RequestError

logger = logging.getLogger("gemcut.serve")
Result = TypeVar("Result")


class Generation:
    """The texts of one request while they grow. Used in the event loop only.

    What has not been taken yet is merged, so a slow reader costs no more memory than its texts.

    Attributes:
        sequences: The texts, in the order of the request.
        accepted: Done when they are in the queue, or refused.
    """

    def __init__(
        self,
        sequences: Sequence[TextSequence],
        observe: Callable[[Update], None],
        on_cancel: Callable[[Generation], None],
    ) -> None:
        self.sequences = list(sequences)
        self._observe, self._on_cancel = observe, on_cancel
        self._indexes = {id(sequence): index for index, sequence in enumerate(self.sequences)}
        self._num_open = sum(sequence.finish_reason is None for sequence in self.sequences)
        self._pending: dict[int, Update] = {}
        self._failure: GemcutError | None = None
        self._changed = asyncio.Event()
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_finished(self) -> bool:
        """Whether no text grows any more."""
        return self._num_open == 0

    async def updates(self) -> AsyncIterator[dict[int, Update]]:
        """What is new, by the text's index, whenever something is, until all texts are finished.

        Raises:
            GemcutError: what `fail` was told.
        """
        while self._pending or not self.is_finished or self._failure:
            await self._changed.wait()
            self._changed.clear()
            if self._failure is not None:
                raise self._failure
            pending, self._pending = self._pending, {}
            if pending:
                yield pending

    def cancel(self) -> None:
        """Stop what still grows; the engine is free after its present step."""
        if not self.is_finished:
            self._num_open = 0
            self._pending = {}
            self._on_cancel(self)
            self._changed.set()

    def push(self, update: Update) -> None:
        """Take in an update of one of the sequences."""
        if self.is_finished:
            return
        self._observe(update)
        index = self._indexes[id(update.sequence)]
        self._num_open -= update.finished
        before = self._pending.get(index)
        self._pending[index] = update if before is None else _merged(before, update)
        self._changed.set()

    def fail(self, error: GemcutError) -> None:
        """End every text with an error that whoever takes the updates gets."""
        self.cancel()
        self._failure = error
        _resolve(self.accepted, None, error)


class EngineThread:
    """Runs schedulers, one step of each in turn, and short jobs between the steps.

    Attributes:
        failure: What ended the thread before its time, or None.
    """

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._schedulers: list[Scheduler] = []
        self._owners: dict[int, Generation] = {}
        self._jobs: collections.deque[Callable[[], None]] = collections.deque()
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="gemcut-engine", daemon=True)
        self._thread.start()

    def attach(self, schedulers: Iterable[Scheduler]) -> None:
        """Step these schedulers from now on."""
        self._send(lambda: self._schedulers.extend(schedulers))

    async def call(self, function: Callable[[], Result]) -> Result:
        """What `function` returns or raises, run between two steps."""
        future: asyncio.Future[Result] = self._loop.create_future()
        self._send(lambda: self._answer(future, function))
        return await future

    async def submit(
        self,
        scheduler: Scheduler,
        sequences: Sequence[TextSequence],
        observe: Callable[[Update], None],
        client: str = "",
    ) -> Generation:
        """Hand over the texts of one request, all of them or none; those that have ended already stay as they are.

        Args:
            scheduler: One that is attached.
            sequences: The texts.
            observe: Called in the event loop with each update, before anybody takes it.
            client: Whose request it is; clients take turns.

        Raises:
            GemcutError: the scheduler refuses one of them, or the thread has ended.
        """
        if self.failure is not None:
            raise _stopped()
        waiting = [sequence for sequence in sequences if sequence.finish_reason is None]
        generation = Generation(sequences, observe, lambda generation: self._cancel(scheduler, generation))
        for sequence in waiting:
            self._owners[id(sequence)] = generation
        try:
            if waiting:
                self._send(lambda: self._answer(generation.accepted, lambda: _add_all(scheduler, waiting, client)))
                await generation.accepted
        except asyncio.CancelledError:
            generation.cancel()
            raise
        except BaseException:
            self._forget(generation)
            raise
        return generation

    def cut_off(self, error: GemcutError) -> None:
        """End every text with an error."""
        for generation in set(self._owners.values()):
            generation.fail(error)

    def stop(self) -> None:
        """End the thread after its present step."""
        self._is_stopping = True
        self._wake.set()
        self._thread.join(timeout=10)

    def _cancel(self, scheduler: Scheduler, generation: Generation) -> None:
        def abort() -> None:
            for sequence in generation.sequences:
                scheduler.abort(sequence)

        self._send(abort)
        self._forget(generation)

    def _forget(self, generation: Generation) -> None:
        for sequence in generation.sequences:
            self._owners.pop(id(sequence), None)

    def _send(self, job: Callable[[], None]) -> None:
        self._jobs.append(job)
        self._wake.set()

    def _answer(self, future: asyncio.Future[Any], function: Callable[[], Any]) -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            self._loop.call_soon_threadsafe(_resolve, future, None, error)
        else:
            self._loop.call_soon_threadsafe(_resolve, future, result, None)

    def _run(self) -> None:
        """The thread: jobs, then a step of each scheduler that has work; it sleeps while none has."""
        try:
            while not self._is_stopping:
                while self._jobs:
                    self._jobs.popleft()()
                busy = [scheduler for scheduler in self._schedulers if scheduler.has_work]
                updates = [update for scheduler in busy for update in scheduler.step()]
                if updates:
                    self._loop.call_soon_threadsafe(self._deliver, updates)
                elif not busy:
                    self._wake.wait()
                    self._wake.clear()
        except BaseException as error:
            logger.exception("The engine thread has ended.")
            self._loop.call_soon_threadsafe(self._fail, error)

    def _deliver(self, updates: list[Update]) -> None:
        for update in updates:
            generation = self._owners.get(id(update.sequence))
            if generation is None:  # cancelled in the meantime
                continue
            try:
                generation.push(update)
            except Exception:  # whatever it is, the updates of the others are delivered
                logger.exception("An update could not be delivered.")
                generation.fail(BackendError("The server failed; its log says why."))
            if update.finished:
                self._owners.pop(id(update.sequence), None)

    def _fail(self, error: BaseException) -> None:
        self.failure = error
        self.cut_off(_stopped())
        while self._jobs:  # whoever waits for one of them would wait for ever
            self._jobs.popleft()()


def _stopped() -> RequestError:
    return RequestError(
        "The engine has stopped; the server's log says why. Start the server again.", status=503, code="engine_stopped"
    )


def _add_all(scheduler: Scheduler, sequences: Sequence[TextSequence], client: str) -> None:
    """Put the texts of one request into the queue, all or none."""
    request = object()
    try:
        for sequence in sequences:
            scheduler.add(sequence, client=client, request=request)
    except BaseException:
        for sequence in sequences:
            scheduler.abort(sequence)
        raise


def _merged(first: Update, second: Update) -> Update:
    """Two updates of one sequence as one."""
    logprobs = None if second.logprobs is None else [*(first.logprobs or ()), *second.logprobs]
    return dataclasses.replace(
        second,
        text=first.text + second.text,
        token_ids=[*first.token_ids, *second.token_ids],
        logprobs=logprobs,
    )


def _resolve(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():  # its request has gone
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
