"""The state of a server: its models, its engine thread, whether it takes new work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Iterable, Sequence

from starlette.requests import Request
from starlette.responses import Response

from gemcut.errors import QueueFullError
from gemcut.generate.sequence import Sequence as TextSequence
from gemcut.serve.engine_thread import EngineThread, Generation
from gemcut.serve.errors import RequestError, unavailable
from gemcut.serve.exchange import Exchange, exchange_of
from gemcut.serve.fields import Strict
from gemcut.serve.metrics import Metrics
from gemcut.serve.served_models import ServedModel, ServedModels
from gemcut.serve.settings import ServerSettings
from gemcut.serve.streaming import answer_while_connected

logger = logging.getLogger("gemcut.serve")
_MAX_NAMES_LOGGED = 200
_LONGEST_RETRY = 30


class Server:
    """What the endpoints share. Made and used in one event loop.

    Args:
        settings: How it was started.

    Attributes:
        settings: As given.
        engine: The engine thread.
        metrics: What /metrics tells.
        models: The models; None while they load.
        is_draining: Whether it takes no new work because it is about to end.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.models: ServedModels | None = None
        self.is_draining = False
        self.engine = EngineThread()
        self.metrics = Metrics(lambda: self.models or (), lambda: self.is_ready, settings.vllm_metric_names)
        self._work: set[Exchange] = set()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._names_logged: set[str] = set()
        self._usual_seconds = 1.0  # of a request, a moving average

    @property
    def is_ready(self) -> bool:
        """Whether it takes new work."""
        return self.models is not None and not self.is_draining and self.engine.failure is None

    @property
    def num_working(self) -> int:
        """Requests that are being answered."""
        return len(self._work)

    async def load(self, load: Callable[[], Iterable[ServedModel]]) -> None:
        """Load the models in the engine thread, then take requests."""
        models = ServedModels(await self.engine.call(load))
        self.engine.attach([model.scheduler for model in models])
        self.models = models

    def opened(self) -> ServedModels:
        """The models.

        Raises:
            RequestError: they still load (503).
        """
        if self.models is None:
            raise unavailable("The model is being loaded. Try again soon.", "loading", 2)
        return self.models

    def begin_work(self, request: Request) -> ServedModels:
        """Count a request as work that a drain waits for; returns the models.

        Raises:
            RequestError: the server loads or drains (503).
        """
        models = self.opened()
        if self.is_draining:
            raise unavailable("The server is about to end and takes no new work. Try again soon.", "draining", 1)
        exchange = exchange_of(request)
        exchange.is_work = True
        self._work.add(exchange)
        self._is_idle.clear()
        return models

    def end_work(self, exchange: Exchange) -> None:
        """A request has got its answer, or its client has gone."""
        if exchange in self._work:
            self._work.remove(exchange)
            self._usual_seconds += 0.2 * (exchange.seconds - self._usual_seconds)
            if exchange.model is not None:
                self.metrics.request_ended(exchange.model, exchange.seconds)
        if not self._work:
            self._is_idle.set()

    async def submit(self, request: Request, model: ServedModel, sequences: Sequence[TextSequence]) -> Generation:
        """Hand the texts of a request to the engine.

        Raises:
            RequestError: too many texts wait (429), or they are more than ever may (400).
            ClientGoneError: the client left.
        """
        room = self.settings.parallel + self.settings.max_waiting
        if len(sequences) > room:
            raise RequestError(
                f"n: the request asks for {len(sequences)} texts, but this server runs and queues {room} at most. "
                "Ask for fewer, or raise --queue.",
                param="n",
            )
        exchange = exchange_of(request)
        exchange.model, exchange.sequences = model.name, sequences
        if self.settings.log_prompts:
            decode = model.text_model.tokenizer.decode
            prompts = [decode(sequence.prompt_ids, skip_special=False) for sequence in sequences]
            logger.info("prompts", extra={"facts": {"request_id": exchange.request_id, "prompts": prompts}})
        try:
            submission = self.engine.submit(
                model.scheduler, sequences, lambda update: exchange.observe(self.metrics, update), exchange.client
            )
            return await answer_while_connected(request, submission)
        except QueueFullError as error:
            seconds = min(max(math.ceil(self._usual_seconds), 1), _LONGEST_RETRY)
            raise RequestError(
                str(error), status=429, code="queue_full", headers={"retry-after": str(seconds)}
            ) from None

    async def drain(self, max_seconds: float) -> int:
        """Take no new work and wait for what runs; returns how many requests were not done in time."""
        self.is_draining = True
        try:
            async with asyncio.timeout(max_seconds):
                await self._is_idle.wait()
        except TimeoutError:
            num_lost = len(self._work)
            logger.warning("%d requests were not done after %g seconds and are cut off.", num_lost, max_seconds)
            self.engine.cut_off(unavailable("The server ended before the answer was complete.", "draining", 1))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_idle.wait(), timeout=1)  # for the news to go out
            return num_lost
        return 0

    def note_ignored(self, request: Request, asked: Strict) -> None:
        """Name fields that a request has and nobody reads; once each."""
        path = request.scope["path"]
        for name in asked.model_extra or ():
            if name not in self._names_logged and len(self._names_logged) < _MAX_NAMES_LOGGED:
                self._names_logged.add(name)
                logger.warning("%s: the field %.60r is not known and is ignored.", path, name)


async def handle_gone(request: Request, error: Exception) -> Response:
    """Note that a client left before its answer began; what is returned nobody gets."""
    exchange_of(request).error_code = "client_gone"
    server_of(request).metrics.cancelled("client_gone")
    return Response(status_code=499)


def server_of(request: Request) -> Server:
    """The server that answers a request."""
    return request.app.state.server
