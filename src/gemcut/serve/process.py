"""The server as a process: its socket, its signals, its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, cast

import uvicorn

from gemcut.errors import GemcutError
from gemcut.serve.app import create_app
from gemcut.serve.http_protocol import HttpProtocol
from gemcut.serve.logs import configure_logs
from gemcut.serve.served_models import ServedModel
from gemcut.serve.server import Server
from gemcut.serve.settings import ServerSettings

# Longer than clients keep unused connections, so that they end them and not the server, whose end they may not notice.
_IDLE_SECONDS = 75
_CLOSE_SECONDS = 3
_STOPPED = object()


def serve(
    settings: ServerSettings,
    load: Callable[[], Iterable[ServedModel]],
    on_ready: Callable[[Server, str], None],
) -> int:
    """Serve until SIGTERM or SIGINT; what runs then may finish.

    Args:
        settings: How.
        load: Gives the models; called in the engine thread while the server listens already.
        on_ready: Called with the server and its URL once it takes requests.

    Returns:
        How many requests were cut off at the end.

    Raises:
        GemcutError: the port is taken, the address is not this machine's, or what `load` raised.
        KeyboardInterrupt: a second signal came.
    """
    configure_logs(settings.log_format)

    async def main() -> int:
        first, second = asyncio.Event(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = lambda: (second if first.is_set() else first).set()  # noqa: E731
            asyncio.get_running_loop().add_signal_handler(number, handler)
        return await run(settings, listener, load, on_ready, first, second)

    with contextlib.closing(listen(settings)) as listener:
        return asyncio.run(main())


def listen(settings: ServerSettings) -> socket.socket:
    """A socket bound to the server's address.

    Raises:
        GemcutError: the port is taken, or the address is not this machine's.
    """
    where = f"--host {settings.host} --port {settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # Only where the protocol is named does asyncio switch off Nagle's algorithm, by which the second part of an
        # answer waits 40 ms for the client's word that it has the first.
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise GemcutError(f"{where}: {error.strerror}. Give an address of this machine.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # A client that takes nothing is let go by `EventStream`, and soon after by the kernel, which then frees what
        # was to be sent; accepted sockets inherit this.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = int((settings.stall_seconds + 2) * 1000)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise GemcutError(f"{where}: cannot listen there ({reason}). Stop what does, or give another --port.") from None
    return listener


async def run(
    settings: ServerSettings,
    listener: socket.socket,
    load: Callable[[], Iterable[ServedModel]],
    on_ready: Callable[[Server, str], None],
    stop: asyncio.Event,
    stop_now: asyncio.Event,
) -> int:
    """Serve on a socket until `stop`, then drain; arguments and errors as of `serve`.

    Raises:
        KeyboardInterrupt: `stop_now` came before the drain was done.
    """
    server = Server(settings)
    web = _Web(_config(server))
    serving = asyncio.create_task(web.serve(sockets=[listener]))
    try:
        if await _unless(stop, server.load(load)) is _STOPPED:
            return 0
        on_ready(server, _url(settings, listener))
        await _unless(stop, serving)
        num_lost = await _unless(stop_now, server.drain(settings.drain_seconds))
        if num_lost is _STOPPED:
            raise KeyboardInterrupt
        return num_lost
    finally:
        web.should_exit = True
        await serving
        server.engine.stop()


async def _unless(event: asyncio.Event, work: Awaitable[Any]) -> Any:
    """The result of `work`, or _STOPPED if the event comes first; `work` is then left alone."""
    task, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return task.result() if task.done() else _STOPPED


class _Web(uvicorn.Server):
    """uvicorn without its own answer to signals, which leaves no connection open at its end."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the requests that were cancelled answer, then let go of the connections."""
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=1)
        for connection in list(self.server_state.connections):
            cast(HttpProtocol, connection).transport.abort()
        await asyncio.sleep(0)  # for them to notice

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them to `_serve`."""
        yield


def _config(server: Server) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(server),
        http=HttpProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_CLOSE_SECONDS,
    )


def _url(settings: ServerSettings, listener: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    host = settings.host if settings.host not in ("0.0.0.0", "::", "") else "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
