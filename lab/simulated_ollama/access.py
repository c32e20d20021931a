"""Counting and logging of requests."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lab.simulated_ollama.faults import CONTROL_PREFIX, INFERENCE_PATHS

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["AccessMiddleware", "Counters"]


@dataclass
class Counters:
    """Requests for inference: how many came, are being answered, were answered with 200."""

    requests: int = 0
    in_flight: int = 0
    served: int = 0


class AccessMiddleware:
    """Writes a line per request as gin does, and counts those for inference."""

    def __init__(self, app: ASGIApp, counters: Counters, log: Callable[[str], None]) -> None:
        self._app = app
        self._counters = counters
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith(CONTROL_PREFIX):
            await self._app(scope, receive, send)
            return
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        is_inference = scope["path"] in INFERENCE_PATHS
        started = time.monotonic()
        self._begin(counted=is_inference)
        try:
            await self._app(scope, receive, noting)
        finally:
            self._end(status, counted=is_inference)
            self._log(_line(scope, status, time.monotonic() - started))

    def _begin(self, *, counted: bool) -> None:
        if counted:
            self._counters.requests += 1
            self._counters.in_flight += 1

    def _end(self, status: int, *, counted: bool) -> None:
        if counted:
            self._counters.in_flight -= 1
            self._counters.served += status == 200


def _line(scope: Scope, status: int, seconds: float) -> str:
    stamp = datetime.now().astimezone().strftime("%Y/%m/%d - %H:%M:%S")
    client = scope["client"][0] if scope.get("client") else "-"
    method, path = scope["method"], scope["path"]
    return f'[GIN] {stamp} | {status} | {seconds:12.6f}s | {client:>15} | {method:<8} "{path}"'
