"""A small HTTP/1.1 client for load and faults: it costs next to nothing, and sends also what no client should."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any

MAX_LINE = 1 << 22  # bytes; an event of a stream is one line


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a server listens, and the key that opens it."""

    port: int
    host: str = "127.0.0.1"
    api_key: str | None = None


class Answer:
    """An answer whose head has come.

    Attributes:
        status: HTTP status.
        headers: With names in lower case.
    """

    def __init__(self, status: int, headers: dict[str, str], reader: asyncio.StreamReader) -> None:
        self.status, self.headers, self._reader = status, headers, reader

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes.

        Raises:
            asyncio.IncompleteReadError: the connection ended before the body did.
        """
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
                yield (await self._reader.readexactly(size + 2))[:-2]
        elif "content-length" in self.headers:
            yield await self._reader.readexactly(int(self.headers["content-length"]))
        else:
            while data := await self._reader.read(1 << 16):
                yield data

    async def body(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def json(self) -> Any:
        """The body as Python values."""
        return json.loads(await self.body())

    async def events(self) -> AsyncIterator[str]:
        """The data of each server-sent event; the last is "[DONE]"."""
        held = b""
        async for chunk in self.chunks():
            *whole, held = (held + chunk).split(b"\n\n")
            for event in whole:
                for line in event.split(b"\n"):
                    if line.startswith(b"data: "):
                        yield line[6:].decode()


class Connection:
    """One connection, for one request; use it in `async with`.

    Args:
        address: The server's.
        receive_bytes: The kernel's buffer for what has not been read; small ones let a server feel a slow reader.
    """

    def __init__(self, address: Address, receive_bytes: int | None = None) -> None:
        self._address, self._receive_bytes = address, receive_bytes
        self.reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Connection:
        limit = MAX_LINE if self._receive_bytes is None else self._receive_bytes
        self.reader, self._writer = await asyncio.open_connection(self._address.host, self._address.port, limit=limit)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return  # the server has closed it first

    async def send(self, data: bytes) -> None:
        """Bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request and wait for the head of its answer; a body that is not bytes is sent as JSON."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"host": f"{self._address.host}:{self._address.port}", "connection": "close"}
        if self._address.api_key:
            fields["authorization"] = f"Bearer {self._address.api_key}"
        if body is not None:
            fields |= {"content-type": "application/json", "content-length": str(len(data))}
        fields |= headers or {}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        try:
            await self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + data)
        except ConnectionError:
            pass  # it may have answered before it had read everything
        return await self.answer()

    async def answer(self) -> Answer:
        """The head of the next answer.

        Raises:
            asyncio.IncompleteReadError: the connection ended before it.
        """
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = (line.partition(":") for line in lines[1:] if line)
        fields = {name.strip().lower(): value.strip() for name, _, value in headers}
        return Answer(int(lines[0].split()[1]), fields, self.reader)


async def ask(address: Address, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    """Status and body of the answer to one request."""
    async with Connection(address) as connection:
        answer = await connection.ask(method, path, body)
        return answer.status, await answer.body()
