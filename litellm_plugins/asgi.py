"""The gateway's outermost layer, in front of LiteLLM's application.

It lets through what is listed and nothing else, checks the key before a byte of the body is read,
keeps each request's record, and moves a request that failed before its first token to another node.

LiteLLM can move requests too, by retries and fallbacks. They leave out streamed text completions,
repeat requests that are the client's own mistake, and answer with the first error, not the last.
Here an answer that is an error is held back while another node is left, which is the same
for every route and needs nothing of LiteLLM's inner workings.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING

from litellm_plugins.auth import owner_of
from litellm_plugins.body import ROUTES, checked_body
from litellm_plugins.errors import ApiError, error_from_litellm, send_error
from litellm_plugins.record import RECORD, Attempt, Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from litellm_plugins.discovery import Discovery
    from litellm_plugins.routing.dispatch import Dispatcher
    from litellm_plugins.schema import Fleet

__all__ = ["Front"]

_log = logging.getLogger(__name__)

_BODY_LIMIT = 32 * 1024 * 1024
"""Bytes; a few large images in base64. The body is kept in memory, to be sent again."""

_LOOK_SECONDS = 1.0
"""Between two looks at whether the node that has a request is still there."""

_IN = frozenset({b"accept", b"host", b"user-agent"})
"""Request headers that LiteLLM gets. Others are orders to it (``x-litellm-timeout``), or keys."""

_OUT = frozenset({b"cache-control", b"content-length", b"content-type", b"x-accel-buffering"})
"""Response headers that the client gets. Others tell of LiteLLM's inside, addresses of nodes too."""

_GATEWAY_STATUS = {404: 404, 408: 504, 429: 429, 503: 503, 504: 504}
"""Statuses that say that a node failed, as the client is told them; all others are 502."""

_WORTH_ANOTHER_NODE = frozenset({404, 408, 429})
"""Besides 5xx: the node has lost the model, was silent for too long, or has a full queue."""


class Front:
    """An ASGI application: ours for the routes that are ours, LiteLLM's for inference."""

    def __init__(
        self,
        *,
        inference: ASGIApp,
        ours: ASGIApp,
        fleet: Callable[[], Fleet],
        dispatcher: Dispatcher,
        discovery: Discovery,
    ) -> None:
        self._inference = inference
        self._ours = ours
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._discovery = discovery

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
        elif scope["method"] == "POST" and scope["path"] in ROUTES:
            await self._infer(scope, receive, send)
        else:
            await self._ours(scope, receive, send)

    async def _infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            owner = owner_of(scope["headers"], self._fleet().keys)
            body = checked_body(scope["path"], await _read(receive))
        except ApiError as error:
            await send_error(send, error)
            return
        record = Record(owner, _named_node(scope))
        token = RECORD.set(record)
        try:
            await self._answer(scope, _Inbox(json.dumps(body).encode(), receive), send, record)
        finally:
            RECORD.reset(token)

    async def _answer(self, scope: Scope, inbox: _Inbox, send: Send, record: Record) -> None:
        while True:
            began = time.monotonic()
            answer = await self._pass_on(scope, inbox, send, record)
            if answer.has_begun or inbox.is_abandoned:
                return
            error, attempt = answer.error(), record.attempt
            if attempt is not None and _is_the_nodes(error):
                self._note_failure(record, attempt, error, time.monotonic() - began)
                if self._dispatcher.has_another(attempt.reservation.model, record.wish):
                    continue
            await send_error(send, _told(error, record), record.headers())
            return

    async def _pass_on(self, scope: Scope, inbox: _Inbox, send: Send, record: Record) -> _Answer:
        """Let LiteLLM answer once, on the node that our hook gives it.

        A node without power says nothing, and LiteLLM would wait for it as for a slow one.
        """
        answer = _Answer(send, record, self._note_success)
        work = asyncio.ensure_future(
            self._inference(_inner(scope, inbox.size), inbox.opened(), answer)
        )
        loss = asyncio.ensure_future(self._loss_of_node(record))
        try:
            await asyncio.wait({work, loss}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loss.cancel()
            work.cancel()
            (failure,) = await asyncio.gather(work, return_exceptions=True)
            record.release()
        if loss.done() and not loss.cancelled():
            await answer.break_off(ApiError(504, "the node does not answer any more"))
        elif isinstance(failure, Exception):
            _log.error("LiteLLM's application failed", exc_info=failure)
            await answer.break_off(ApiError(500, "the gateway failed on this request"))
        return answer

    async def _loss_of_node(self, record: Record) -> None:
        """Return once the node that has the request is lost."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            attempt = record.attempt
            if attempt is not None and self._discovery.is_lost(attempt.choice.node):
                return

    def _note_success(self, attempt: Attempt) -> None:
        self._dispatcher.answered(attempt.reservation.node, attempt.reservation.model)

    def _note_failure(self, record: Record, attempt: Attempt, error: ApiError, took: float) -> None:
        slot = attempt.reservation
        _log.warning("%s failed on %s before a first token: %s", slot.node, slot.model, error)
        record.fail(error.status, error.message)
        self._dispatcher.failed(slot.node, slot.model, took)
        self._discovery.look_at(slot.node)


class _Inbox:
    """A request's body, to be received as often as it is passed on, and then the client's leaving."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.is_abandoned = False
        self.size = len(body)
        self._body = body
        self._receive = receive

    def opened(self) -> Receive:
        """Return a `receive` that begins with the body."""
        unread = [self._body]

        async def receive() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            return await self._next()

        return receive

    async def _next(self) -> Message:
        if self.is_abandoned:
            return {"type": "http.disconnect"}
        message = await self._receive()
        self.is_abandoned = message["type"] == "http.disconnect"
        return message


class _Answer:
    """A `send` that lets a success through, with our headers, and holds an error back."""

    def __init__(self, send: Send, record: Record, on_success: Callable[[Attempt], None]) -> None:
        self.has_begun = False
        self._send = send
        self._record = record
        self._on_success = on_success
        self._has_ended = False
        self._status = 500
        self._held = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] < 400:
            self.has_begun = True
            if self._record.attempt is not None:
                self._on_success(self._record.attempt)
            kept = [item for item in message["headers"] if item[0].lower() in _OUT]
            await self._send({**message, "headers": [*kept, *self._record.headers()]})
        elif self.has_begun:
            self._has_ended = not message.get("more_body", False)
            await self._send(message)
        elif message["type"] == "http.response.start":
            self._status = message["status"]
        else:
            self._held += message.get("body", b"")

    async def break_off(self, error: ApiError) -> None:
        """End an answer that is not whole: by holding the error, or in band if it has begun."""
        content = json.dumps(error.body()).encode()
        if not self.has_begun:
            self._status = error.status
            self._held = bytearray(content)
        elif not self._has_ended:
            await self({"type": "http.response.body", "body": b"data: " + content + b"\n\n"})

    def error(self) -> ApiError:
        """Return the error that was held back."""
        return error_from_litellm(self._status, bytes(self._held))


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ApiError(400, "the request was not sent to its end")
        body += message.get("body", b"")
        if len(body) > _BODY_LIMIT:
            raise ApiError(413, f"the body is larger than {_BODY_LIMIT} bytes")
        more = message.get("more_body", False)
    return bytes(body)


def _inner(scope: Scope, size: int) -> Scope:
    """Return the scope that LiteLLM sees: nothing of the client's that could steer it."""
    kept = [item for item in scope["headers"] if item[0] in _IN]
    length = (b"content-length", str(size).encode())
    return {
        **scope,
        "headers": [*kept, (b"content-type", b"application/json"), length],
        "query_string": b"",
        "state": dict(scope.get("state", {})),
    }


def _named_node(scope: Scope) -> str | None:
    named = [value for name, value in scope["headers"] if name == b"x-jarvis-node"]
    return named[0].decode("latin-1") if named else None


def _is_the_nodes(error: ApiError) -> bool:
    """Whether an error is the node's fault, so that another may do better."""
    return error.status >= 500 or error.status in _WORTH_ANOTHER_NODE


def _told(error: ApiError, record: Record) -> ApiError:
    """Return the error as the client is told it: of all nodes that failed, if that is why."""
    if record.attempt is not None or not record.failures:
        return error
    status = _GATEWAY_STATUS.get(record.failures[-1].status, 502)
    tries = "; ".join(f"{failure.node}: {failure.message}" for failure in record.failures)
    return ApiError(status, f"no node could answer: {tries}")
