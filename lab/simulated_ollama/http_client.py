"""A small HTTP/1.1 client on asyncio: what a pull needs, and cancelled at once when told to."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import h11

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

__all__ = ["HttpError", "Response", "request"]

_BLOCK = 1 << 16
_CONNECT_SECONDS = 30.0
_MOST_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class HttpError(Exception):
    """The request got no answer; the message is in the words of Go's client."""


@dataclass
class Response:
    """The head of an answer; `location` is absolute, empty where the answer names none."""

    status: int
    headers: dict[str, str]
    url: str
    connection: _Connection

    @property
    def location(self) -> str:
        """Where the answer points to."""
        target = self.headers.get("location", "")
        return urljoin(self.url, target) if target else ""

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body.

        Raises:
            HttpError: where the connection ends before the body does.

        """
        while True:
            event = await self.connection.next_event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            if isinstance(event, h11.EndOfMessage):
                return

    async def content(self) -> bytes:
        """Return the whole body."""
        return b"".join([block async for block in self.body()])


class _Connection:
    """One connection for one request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._protocol = h11.Connection(h11.CLIENT)

    async def send(self, head: h11.Request) -> None:
        for event in (head, h11.EndOfMessage()):
            self._writer.write(self._protocol.send(event) or b"")
        await self._writer.drain()

    async def next_event(self) -> h11.Event:
        while True:
            try:
                event = self._protocol.next_event()
                if event is h11.NEED_DATA:
                    self._protocol.receive_data(await self._reader.read(_BLOCK))
                    continue
            except (OSError, h11.RemoteProtocolError) as error:
                raise HttpError(f"unexpected EOF: {error}") from None
            if isinstance(event, h11.Event):
                return event
            raise HttpError("unexpected EOF")

    def close(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def request(
    method: str,
    url: str,
    headers: Mapping[str, str] | None = None,
    *,
    follow: Callable[[str], bool] = lambda _: True,
) -> AsyncIterator[Response]:
    """Send a request without a body; the answer can be read while inside.

    `follow` is asked whether the URL of a redirect is gone to.

    Raises:
        HttpError: where there is no answer.

    """
    for _ in range(_MOST_REDIRECTS):
        connection = await _connected(method, url)
        try:
            response = await _exchange(connection, method, url, headers or {})
            is_redirect = response.status in _REDIRECTS and bool(response.location)
            if not (is_redirect and follow(response.location)):
                yield response
                return
            url = response.location
        finally:
            connection.close()
    raise HttpError(f'{method.title()} "{url}": stopped after {_MOST_REDIRECTS} redirects')


async def _exchange(
    connection: _Connection, method: str, url: str, headers: Mapping[str, str]
) -> Response:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    head = h11.Request(
        method=method,
        target=target,
        headers=[("host", parts.netloc), ("connection", "close"), *headers.items()],
    )
    await connection.send(head)
    while True:
        event = await connection.next_event()
        if isinstance(event, h11.Response):
            found = {key.decode(): value.decode("latin-1") for key, value in event.headers}
            return Response(event.status_code, found, url, connection)


async def _connected(method: str, url: str) -> _Connection:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    context = ssl.create_default_context() if secure else None
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(host, port, ssl=context), _CONNECT_SECONDS
        )
    except (OSError, asyncio.TimeoutError) as error:
        raise HttpError(f'{method.title()} "{url}": {_reason(error, host, port)}') from None
    return _Connection(reader, writer)


def _reason(error: Exception, host: str, port: int) -> str:
    if isinstance(error, socket.gaierror):
        return f"dial tcp: lookup {host}: no such host"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {error.verify_message}"
    if isinstance(error, ConnectionRefusedError):
        return f"dial tcp {host}:{port}: connect: connection refused"
    if isinstance(error, asyncio.TimeoutError):
        return f"dial tcp {host}:{port}: i/o timeout"
    return f"dial tcp {host}:{port}: {error}"
