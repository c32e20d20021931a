"""Answers over HTTP: whole ones, streams, and what happens when the client leaves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.responses import Response

from lab.simulated_ollama.errors import ApiError, canceled
from lab.simulated_ollama.wire import go_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from starlette.types import Receive, Scope, Send

__all__ = [
    "GoJson",
    "OpenaiJson",
    "Streamed",
    "Text",
    "error_body",
    "error_response",
    "while_connected",
]

OPENAI_PREFIX = "/v1/"
_OPENAI_TYPES = {400: "invalid_request_error", 404: "not_found_error"}

_T = TypeVar("_T")


class GoJson(Response):
    """A JSON body as gin writes it."""

    media_type = "application/json; charset=utf-8"

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - any JSON value
        """Encode the body."""
        return go_json(content)


class Text(Response):
    """Plain text as gin writes it."""

    media_type = "text/plain"


class OpenaiJson(Response):
    """A JSON body as Ollama's translation to OpenAI's form writes it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - any JSON value
        """Encode the body."""
        return go_json(content) + b"\n"


def error_body(path: str, error: ApiError) -> dict[str, Any]:
    """Return an error in the form of the interface that the path belongs to."""
    if not path.startswith(OPENAI_PREFIX):
        return {"error": error.message}
    kind = _OPENAI_TYPES.get(error.status, "api_error")
    return {"error": {"message": error.message, "type": kind, "param": None, "code": None}}


def error_response(path: str, error: ApiError) -> Response:
    """Return the answer for an error."""
    kind = OpenaiJson if path.startswith(OPENAI_PREFIX) else GoJson
    return kind(error_body(path, error), status_code=error.status)


class Streamed(Response):
    """A stream whose status is decided by its first frame, as Ollama decides it.

    An `ApiError` before the first frame is raised to the caller, who answers with its status; a
    later one becomes the stream's last frame, made by `last_frame` (None: the stream just ends).
    """

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        media_type: str,
        last_frame: Callable[[ApiError], bytes],
    ) -> None:
        super().__init__(media_type=media_type)
        self._frames = frames
        self._last_frame = last_frame
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the frames for as long as the client listens."""
        del scope
        await while_connected(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        started = False
        try:
            async for frame in self._frames:
                if not started:
                    await self._start(send)
                    started = True
                await _send_frame(send, frame)
        except ApiError as error:
            if not started:
                raise
            await _send_frame(send, self._last_frame(error))
        if not started:
            await self._start(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )


async def while_connected(receive: Receive, work: Coroutine[Any, Any, _T]) -> _T:
    """Do the work unless the client leaves first; then it is cancelled.

    Raises:
        ApiError: 499 where the client left.

    """
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise canceled()
    finally:
        for unfinished in (task, leaving):
            unfinished.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_frame(send: Send, frame: bytes) -> None:
    await send({"type": "http.response.body", "body": frame, "more_body": True})
