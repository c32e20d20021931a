"""Faults that can be switched on: what a node does when it fails."""

from __future__ import annotations

import socket
import struct
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from lab.simulated_ollama.errors import BUSY, ApiError
from lab.simulated_ollama.responses import error_response

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = [
    "CONTROL_PREFIX",
    "INFERENCE_PATHS",
    "MODES",
    "Connections",
    "Fault",
    "FaultError",
    "FaultMiddleware",
    "Faults",
    "fault_of",
]

CONTROL_PREFIX = "/simulated/"
INFERENCE_PATHS = frozenset(
    {
        "/api/generate",
        "/api/chat",
        "/api/embed",
        "/api/embeddings",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
    }
)
MODES = (
    "none",
    "refuse",
    "hang",
    "reset_before_headers",
    "reset_after_headers",
    "reset_after_tokens",
    "runner_crash",
    "http_500",
    "busy",
    "not_found",
    "slow",
)

_T = TypeVar("_T")
_SCOPE_KEY = "simulated_fault"
_RUNNER_GONE = "an error was encountered while running the model: unexpected EOF"
_NO_LINGER = struct.pack("ii", 1, 0)
_ERRORS = {
    "http_500": ApiError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "llama-server process has terminated: exit status 2 (simulated)",
    ),
    "busy": ApiError(HTTPStatus.SERVICE_UNAVAILABLE, BUSY),
}


class FaultError(ValueError):
    """A fault that cannot be switched on; the message says why."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    `tokens` is for ``reset_after_tokens`` and ``runner_crash``, `factor` for ``slow``, `seconds`
    for ``refuse``; `scope` is ``inference`` or ``all``; `reset` breaks the connection of the
    request that the fault was taken for.
    """

    mode: str = "none"
    tokens: int = 3
    factor: float = 10.0
    seconds: float = 5.0
    scope: str = "inference"
    reset: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    @property
    def slowdown(self) -> float:
        """How much longer the hardware takes."""
        return self.factor if self.mode == "slow" else 1.0

    async def watch(self, events: AsyncGenerator[_T, None]) -> AsyncGenerator[_T, None]:
        """Pass events on, one per token; break the connection after as many as the fault says."""
        passed = 0
        async with aclosing(events):
            async for event in events:
                if passed >= self.tokens:
                    self._strike()
                yield event
                passed += 1

    def _strike(self) -> None:
        if self.mode == "reset_after_tokens":
            self.break_connection()
        if self.mode == "runner_crash":
            raise ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, _RUNNER_GONE)

    def break_connection(self) -> None:
        """Reset the connection and end the request.

        Raises:
            ApiError: always; it has nowhere to go.

        """
        if self.reset is not None:
            self.reset()
        raise ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "connection reset (simulated)")


class Connections:
    """Open connections by the address of the client."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], asyncio.Transport] = {}
        self._serving: set[tuple[str, int]] = set()

    def opened(self, transport: asyncio.Transport) -> None:
        """Note a new connection."""
        self._open[_peer(transport)] = transport

    def closed(self, transport: asyncio.Transport) -> None:
        """Forget a connection."""
        self._open.pop(_peer(transport), None)

    def begin(self, client: tuple[str, int]) -> None:
        """Note that a request is being answered."""
        self._serving.add(client)

    def end(self, client: tuple[str, int]) -> None:
        """Note that it is answered."""
        self._serving.discard(client)

    def reset(self, client: tuple[str, int]) -> None:
        """End a connection by a TCP reset: the peer sees ECONNRESET, not an end of file."""
        transport = self._open.get(client)
        if transport is None:
            return
        opened: socket.socket = transport.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.abort()

    def reset_idle(self) -> None:
        """Reset every connection that waits for a next request."""
        for client in [item for item in self._open if item not in self._serving]:
            self.reset(client)


class Faults:
    """The fault that is switched on, and for how many requests more."""

    def __init__(self) -> None:
        self.current = Fault()
        self.left: int | None = None

    def set(self, data: dict[str, Any]) -> Fault:
        """Switch a fault on.

        Raises:
            FaultError: where a field is unknown or has a wrong value.

        """
        known = {"mode", "tokens", "factor", "count", "scope", "seconds"}
        unknown = sorted(set(data) - known)
        if unknown:
            raise FaultError(f"unknown field {unknown[0]!r}; known: {', '.join(sorted(known))}")
        mode = data.get("mode", "none")
        if mode not in MODES:
            raise FaultError(f"unknown mode {mode!r}; known: {', '.join(MODES)}")
        if data.get("scope", "inference") not in {"inference", "all"}:
            raise FaultError("scope is 'inference' or 'all'")
        try:
            count = data.get("count")
            self.left = None if count is None else int(count)
            self.current = Fault(
                mode=mode,
                tokens=int(data.get("tokens", Fault.tokens)),
                factor=float(data.get("factor", Fault.factor)),
                seconds=float(data.get("seconds", Fault.seconds)),
                scope=data.get("scope", "inference"),
            )
        except (TypeError, ValueError) as error:
            raise FaultError(str(error)) from None
        return self.current

    def take(self, path: str) -> Fault:
        """Return the fault for a request and count it."""
        fault = self.current
        if fault.scope == "inference" and path not in INFERENCE_PATHS:
            return Fault()
        if self.left is None:
            return fault
        if self.left <= 0:
            return Fault()
        self.left -= 1
        return fault


class FaultMiddleware:
    """Breaks requests as the fault says; those to the control endpoints never."""

    def __init__(self, app: ASGIApp, faults: Faults, connections: Connections) -> None:
        self._app = app
        self._faults = faults
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = (scope["client"][0], scope["client"][1])
        self._connections.begin(client)
        try:
            await self._serve(self._fault(scope["path"], client), scope, receive, send)
        finally:
            self._connections.end(client)

    def _fault(self, path: str, client: tuple[str, int]) -> Fault:
        if path.startswith(CONTROL_PREFIX):
            return Fault()
        return replace(self._faults.take(path), reset=lambda: self._connections.reset(client))

    async def _serve(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.mode == "hang":
            await _until(receive, "http.disconnect")
            return
        if fault.mode == "reset_before_headers":
            await _whole_body(receive)
            await _reset(fault, receive)
            return
        if fault.mode == "reset_after_headers":
            await _whole_body(receive)
            await send(_HEADERS)
            await _reset(fault, receive)
            return
        error = _ERRORS.get(fault.mode)
        if error is not None:
            await error_response(scope["path"], error)(scope, receive, send)
            return
        scope[_SCOPE_KEY] = fault
        await self._app(scope, receive, send)


def fault_of(scope: Scope) -> Fault:
    """Return the fault that a request meets; of a request without one, the fault "none"."""
    fault: Fault = scope.get(_SCOPE_KEY, Fault())
    return fault


_HEADERS: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream"), (b"transfer-encoding", b"chunked")],
}


async def _reset(fault: Fault, receive: Receive) -> None:
    if fault.reset is not None:
        fault.reset()
    await _until(receive, "http.disconnect")


async def _whole_body(receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


async def _until(receive: Receive, kind: str) -> None:
    while (await receive())["type"] != kind:
        pass


def _peer(transport: asyncio.Transport) -> tuple[str, int]:
    host, port, *_ = transport.get_extra_info("peername") or ("", 0)
    return host, port
