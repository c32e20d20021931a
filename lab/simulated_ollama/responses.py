"""Answers over HTTP: whole ones, streams, and what happens when the client leaves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.responses import Response

from lab.simulated_ollama.errors import ApiError, BadRequestError, canceled
from lab.simulated_ollama.wire import go_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

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
_MOST_BUFFERED = 2048
"""Bytes that net/http buffers before it sends the head."""

_OPENAI_TYPES = {400: "invalid_request_error", 404: "not_found_error"}

_T = TypeVar("_T")


class _Json(Response):
    """A JSON body; Go sends a long one in chunks."""

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - any JSON value
        """Encode the body."""
        return go_json(content)

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Leave the length out where Go does not know it when it sends the head."""
        super().init_headers(headers)
        if len(self.body) > _MOST_BUFFERED:
            del self.headers["content-length"]


class GoJson(_Json):
    """A JSON body as gin writes it."""

    media_type = "application/json; charset=utf-8"


class OpenaiJson(_Json):
    """A JSON body as Ollama's translation to OpenAI's form writes it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:  # noqa: ANN401 - any JSON value
        """Encode the body."""
        return super().render(content) + b"\n"


class Text(Response):
    """Plain text as gin writes it."""

    def __init__(
        self,
        content: str,
        status_code: int = 200,
        *,
        media_type: str = "text/plain",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            content, status_code, headers={**(headers or {}), "content-type": media_type}
        )


def error_body(path: str, error: ApiError) -> dict[str, Any]:
    """Return an error in the form of the interface that the path belongs to."""
    if not path.startswith(OPENAI_PREFIX):
        return {"error": error.message}
    kind = _OPENAI_TYPES.get(error.status, "api_error")
    return {"error": {"message": error.message, "type": kind, "param": None, "code": None}}


def error_response(path: str, error: ApiError) -> Response:
    """Return the answer for an error."""
    is_translated = path.startswith(OPENAI_PREFIX) and not isinstance(error, BadRequestError)
    kind = OpenaiJson if is_translated else GoJson
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
        super().__init__(headers={"content-type": media_type})
        self._frames = frames
        self._last_frame = last_frame
        self._started = False
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the frames for as long as the client listens."""
        del scope
        try:
            await while_connected(receive, self._send_all(send))
        except ApiError:
            if not self._started:
                raise

    async def _send_all(self, send: Send) -> None:
        try:
            async for frame in self._frames:
                await self._send_frame(send, frame)
        except ApiError as error:
            if not self._started:
                raise
            await self._send_frame(send, self._last_frame(error))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_frame(self, send: Send, frame: bytes) -> None:
        if not self._started:
            self._started = True
            head = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **head})
        await send({"type": "http.response.body", "body": frame, "more_body": True})


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
