"""Ollama's own HTTP interface to models: ``/api/chat``, ``/api/generate``, ``/api/embed``."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from lab.simulated_ollama.body import Body, read_body
from lab.simulated_ollama.embedding import normalised, shortened
from lab.simulated_ollama.engine import Engine, Inference, Message
from lab.simulated_ollama.errors import ApiError, no_such_model, not_pulled
from lab.simulated_ollama.events import (
    chat_events,
    generate_events,
    joined_chat,
    joined_generate,
    short,
    text_of,
)
from lab.simulated_ollama.faults import fault_of
from lab.simulated_ollama.options import options_of
from lab.simulated_ollama.responses import GoJson, Streamed, while_connected
from lab.simulated_ollama.wire import go_json, nanoseconds, quoted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

    from lab.simulated_ollama.events import Event
    from lab.simulated_ollama.store import Model

__all__ = ["NativeApi", "check_abilities", "embed_texts"]

_NDJSON = "application/x-ndjson"
_EMPTY = "missing request body"


class NativeApi:
    """The handlers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """Return the routes of this interface."""
        return [
            Route("/api/chat", self.chat, methods=["POST"]),
            Route("/api/generate", self.generate, methods=["POST"]),
            Route("/api/embed", self.embed, methods=["POST"]),
            Route("/api/embeddings", self.embeddings, methods=["POST"]),
        ]

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        arrived = time.monotonic()
        fault = fault_of(request.scope)
        body = await read_body(request, "ChatRequest", when_empty=_EMPTY)
        name = body.text("model")
        unnamed = ApiError(HTTPStatus.BAD_REQUEST, "model is required")
        model = self._engine.find(name, no_such_model, unnamed, fault)
        messages = tuple(_message(item) for item in body.objects("messages", "api.Message"))
        keep_alive = body.keep_alive()
        if not messages and keep_alive == 0:
            self._engine.scheduler.expire(model)
            return GoJson(short(name, "unload", chat=True))
        inference = Inference(
            model=name,
            messages=messages,
            options=options_of(body.mapping("options"), model.params),
            keep_alive=keep_alive,
            think=_think(body),
            tools=_tool_names(body),
            form=body.anything("format") or None,
            truncate=body.boolean("truncate") is not False,
            shift=body.boolean("shift") is not False,
            slowdown=fault.slowdown,
        )
        check_abilities(model, inference, "chat")
        if not messages:
            await self._load(request, model, inference)
            return GoJson(short(name, "load", chat=True))
        pieces = self._engine.generate(model, inference, arrived)
        events = fault.watch(chat_events(name, pieces))
        if body.boolean("stream") is False:
            return GoJson(await while_connected(request.receive, joined_chat(events)))
        return _streamed(events)

    async def generate(self, request: Request) -> Response:
        """Continue a prompt."""
        arrived = time.monotonic()
        fault = fault_of(request.scope)
        body = await read_body(request, "GenerateRequest", when_empty=_EMPTY)
        name = body.text("model")
        model = self._engine.find(name, no_such_model, no_such_model(""), fault)
        prompt = body.text("prompt")
        keep_alive = body.keep_alive()
        if not prompt and keep_alive == 0:
            self._engine.scheduler.expire(model)
            return GoJson(short(name, "unload", chat=False))
        raw = bool(body.boolean("raw"))
        system = body.text("system")
        inference = Inference(
            model=name,
            messages=(
                *([Message("system", system)] if system else []),
                Message("user", prompt),
            ),
            options=options_of(body.mapping("options"), model.params),
            keep_alive=keep_alive,
            think=_think(body),
            form=body.anything("format") or None,
            truncate=body.boolean("truncate") is not False,
            shift=body.boolean("shift") is not False,
            raw=raw,
            before=text_of(body.integers("context")),
            suffix=body.text("suffix"),
            slowdown=fault.slowdown,
        )
        check_abilities(model, inference, "generate")
        if not prompt:
            await self._load(request, model, inference)
            return GoJson(short(name, "load", chat=False))
        pieces = self._engine.generate(model, inference, arrived)
        events = fault.watch(generate_events(name, pieces, context=not raw))
        if body.boolean("stream") is False:
            return GoJson(await while_connected(request.receive, joined_generate(events)))
        return _streamed(events)

    async def embed(self, request: Request) -> Response:
        """Return one vector per text."""
        arrived = time.monotonic()
        body = await read_body(request, "EmbedRequest", when_empty=_EMPTY)
        texts = embed_texts(body.anything("input"))
        vectors, tokens, load = await self._vectors(request, body, texts)
        name = body.text("model")
        if not texts:
            return GoJson({"model": name, "embeddings": []})
        dimensions = body.integer("dimensions") or 0
        return GoJson(
            {
                "model": name,
                "embeddings": [shortened(normalised(vector), dimensions) for vector in vectors],
                "total_duration": nanoseconds(time.monotonic() - arrived),
                "load_duration": nanoseconds(load),
                "prompt_eval_count": tokens,
            }
        )

    async def embeddings(self, request: Request) -> Response:
        """Return the vector of one text, in the older form."""
        body = await read_body(request, "EmbeddingRequest", when_empty=_EMPTY)
        prompt = body.text("prompt")
        vectors, _, _ = await self._vectors(request, body, [prompt] if prompt else [])
        return GoJson({"embedding": vectors[0] if vectors else []})

    async def _vectors(
        self, request: Request, body: Body, texts: list[str]
    ) -> tuple[list[list[float]], int, float]:
        fault = fault_of(request.scope)
        name = body.text("model")
        unnamed = ApiError(HTTPStatus.NOT_FOUND, "model '' not found")
        model = self._engine.find(name, not_pulled, unnamed, fault)
        work = self._engine.embed(
            model,
            name,
            texts,
            options=options_of(body.mapping("options"), model.params),
            keep_alive=body.keep_alive(),
            truncate=body.boolean("truncate") is not False,
            slowdown=fault.slowdown,
        )
        return await while_connected(request.receive, work)

    async def _load(self, request: Request, model: Model, inference: Inference) -> None:
        async def load() -> None:
            async with self._engine.load(
                model,
                inference.model,
                inference.options,
                inference.keep_alive,
                shift=inference.shift,
            ):
                pass

        await while_connected(request.receive, load())


def check_abilities(model: Model, request: Inference, what: str) -> None:
    """Refuse what the model cannot do.

    Raises:
        ApiError: 400 with Ollama's text.

    """
    if request.think and not model.can("thinking"):
        message = f"{quoted(request.model)} does not support thinking"
        raise ApiError(HTTPStatus.BAD_REQUEST, message)
    if not model.can("completion"):
        raise ApiError(HTTPStatus.BAD_REQUEST, f"{quoted(request.model)} does not support {what}")
    for wanted, ability in ((request.tools, "tools"), (request.suffix, "insert")):
        if wanted and not model.can(ability):
            message = f"{model.name.full} does not support {ability}"
            raise ApiError(HTTPStatus.BAD_REQUEST, message)


def embed_texts(given: Any) -> list[str]:  # noqa: ANN401 - a text or a list of texts
    """Return the texts of an embedding request.

    Raises:
        ApiError: where they are no texts.

    """
    if given is None or given == "":
        return []
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ApiError(HTTPStatus.BAD_REQUEST, "invalid input type")
    return texts


def _streamed(events: AsyncIterator[Event]) -> Streamed:
    async def lines() -> AsyncIterator[bytes]:
        async for event in events:
            yield go_json(event) + b"\n"

    return Streamed(lines(), _NDJSON, lambda error: go_json({"error": error.message}) + b"\n")


def _message(data: dict[str, Any]) -> Message:
    body = Body(data, "Message")
    calls = body.objects("tool_calls", "api.ToolCall")
    said = "".join(str(call.get("function", "")) for call in calls)
    return Message(body.text("role"), body.text("content") + said)


def _think(body: Body) -> bool | None:
    value = body.anything("think")
    return None if value is None else bool(value)


def _tool_names(body: Body) -> tuple[str, ...]:
    tools = body.objects("tools", "api.Tool")
    return tuple(str(tool.get("function", {}).get("name", "")) for tool in tools)
