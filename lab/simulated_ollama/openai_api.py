"""The OpenAI-compatible interface: ``/v1/*``, translated from Ollama's own as Ollama does it."""

from __future__ import annotations

import base64
import random
import struct
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from lab.simulated_ollama.body import Body, read_body
from lab.simulated_ollama.embedding import normalised, shortened
from lab.simulated_ollama.engine import Engine, Inference, Message
from lab.simulated_ollama.errors import ApiError, BadRequestError, no_such_model, not_pulled
from lab.simulated_ollama.events import (
    chat_events,
    generate_events,
    joined_chat,
    joined_generate,
)
from lab.simulated_ollama.faults import fault_of
from lab.simulated_ollama.names import parse_name
from lab.simulated_ollama.native_api import check_abilities, embed_texts
from lab.simulated_ollama.options import options_of
from lab.simulated_ollama.responses import OpenaiJson, Streamed, while_connected
from lab.simulated_ollama.wire import go_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

    from lab.simulated_ollama.events import Event

__all__ = ["OpenaiApi"]

_SSE = "text/event-stream"
_EMPTY = "EOF"
_DONE = b"data: [DONE]\n\n"
_FINGERPRINT = "fp_ollama"
_EFFORTS = frozenset({"minimal", "low", "medium", "high", "max", "xhigh", "ultra"})


class OpenaiApi:
    """The handlers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """Return the routes of this interface."""
        return [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/embeddings", self.embeddings, methods=["POST"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/models/{model}", self.model, methods=["GET"]),
        ]

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        arrived = time.monotonic()
        fault = fault_of(request.scope)
        body = await read_body(request, "ChatCompletionRequest", when_empty=_EMPTY)
        messages = _messages(body)
        if not messages:
            raise BadRequestError("[] is too short - 'messages'")
        think = _think(body)
        name = body.text("model")
        unnamed = ApiError(HTTPStatus.BAD_REQUEST, "model is required")
        model = self._engine.find(name, no_such_model, unnamed, fault)
        tools = body.objects("tools", "api.Tool")
        inference = Inference(
            model=name,
            messages=messages,
            options=options_of(_options(body), model.params),
            think=think,
            tools=tuple(str(tool.get("function", {}).get("name", "")) for tool in tools),
            form=_form(body),
            slowdown=fault.slowdown,
        )
        check_abilities(model, inference, "chat")
        pieces = self._engine.generate(model, inference, arrived)
        events = fault.watch(chat_events(name, pieces))
        identity = f"chatcmpl-{random.randrange(999)}"
        if not body.boolean("stream"):
            event = await while_connected(request.receive, joined_chat(events))
            return OpenaiJson(_completion(identity, event))
        usage = bool(body.mapping("stream_options").get("include_usage"))
        frames = _chat_frames(identity, events, include_usage=usage)
        return Streamed(frames, _SSE, lambda _: _late_error(identity))

    async def completions(self, request: Request) -> Response:
        """Continue a prompt."""
        arrived = time.monotonic()
        fault = fault_of(request.scope)
        body = await read_body(request, "CompletionRequest", when_empty=_EMPTY)
        name = body.text("model")
        model = self._engine.find(name, no_such_model, no_such_model(""), fault)
        inference = Inference(
            model=name,
            messages=(Message("user", body.text("prompt")),),
            options=options_of(_options(body), model.params),
            suffix=body.text("suffix"),
            slowdown=fault.slowdown,
        )
        check_abilities(model, inference, "generate")
        pieces = self._engine.generate(model, inference, arrived)
        events = fault.watch(generate_events(name, pieces, context=False))
        identity = f"cmpl-{random.randrange(999)}"
        if not body.boolean("stream"):
            event = await while_connected(request.receive, joined_generate(events))
            head = _head(identity, "text_completion", event["model"], int(time.time()))
            return OpenaiJson({**head, "choices": [_text_choice(event)], "usage": _usage(event)})
        usage = bool(body.mapping("stream_options").get("include_usage"))
        frames = _text_frames(identity, events, include_usage=usage)
        return Streamed(frames, _SSE, lambda _: _late_error(identity))

    async def embeddings(self, request: Request) -> Response:
        """Return one vector per text."""
        fault = fault_of(request.scope)
        body = await read_body(request, "EmbedRequest", when_empty=_EMPTY)
        encoding = body.text("encoding_format").lower()
        if encoding not in {"", "float", "base64"}:
            message = (
                f"Invalid value for 'encoding_format' = {body.text('encoding_format')}. "
                "Supported values: ['float', 'base64']."
            )
            raise BadRequestError(message)
        given = body.anything("input")
        if given is None or given == []:
            raise BadRequestError("invalid input")
        texts = [""] if given == "" else embed_texts(given)
        name = body.text("model")
        model = self._engine.find(name, not_pulled, no_such_model(""), fault)
        work = self._engine.embed(
            model,
            name,
            texts,
            options=options_of({}, model.params),
            keep_alive=None,
            truncate=True,
            slowdown=fault.slowdown,
        )
        vectors, tokens, _ = await while_connected(request.receive, work)
        dimensions = body.integer("dimensions") or 0
        data = [
            {
                "object": "embedding",
                "embedding": _encoded(shortened(normalised(vector), dimensions), encoding),
                "index": index,
            }
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return OpenaiJson({"object": "list", "data": data, "model": name, "usage": usage})

    async def models(self, request: Request) -> Response:
        """List what is there; `data` is null where nothing is, as in Ollama."""
        del request
        data = [_model(item.name.shortest, item.modified_ns) for item in self._engine.store.list()]
        return OpenaiJson({"object": "list", "data": data or None})

    async def model(self, request: Request) -> Response:
        """Describe one model."""
        name = request.path_params["model"]
        manifest = self._engine.store.manifest(parse_name(name))
        if manifest is None:
            raise no_such_model(parse_name(name).shortest)
        return OpenaiJson(_model(name, manifest.modified_ns))


async def _chat_frames(
    identity: str, events: AsyncIterator[Event], *, include_usage: bool
) -> AsyncIterator[bytes]:
    created = int(time.time())
    first = True
    called = False
    async for event in events:
        head = _head(identity, "chat.completion.chunk", event["model"], created)
        message = event["message"]
        calls = _tool_calls(message)
        called = called or bool(calls)
        if first or not event["done"]:
            delta: Event = {"role": "assistant"} if first else {}
            delta["content"] = message["content"]
            if message.get("thinking"):
                delta["reasoning"] = message["thinking"]
            if calls:
                delta["tool_calls"] = calls
            yield _frame({**head, "choices": [_choice(delta, None)]})
            first = False
        if not event["done"]:
            continue
        yield _frame({**head, "choices": [_choice({}, _reason(event, called=called))]})
        if include_usage:
            yield _frame({**head, "choices": [], "usage": _usage(event)})
        yield _DONE


async def _text_frames(
    identity: str, events: AsyncIterator[Event], *, include_usage: bool
) -> AsyncIterator[bytes]:
    async for event in events:
        head = _head(identity, "text_completion", event["model"], int(time.time()))
        chunk = _in_go_order({**head, "choices": [_text_choice(event)]})
        yield _frame({**chunk, "usage": _usage({})} if include_usage else chunk)
        if not event["done"]:
            continue
        if include_usage:
            yield _frame(_in_go_order({**head, "choices": [], "usage": _usage(event)}))
        yield _DONE


def _in_go_order(chunk: Event) -> Event:
    """Order the fields of a chunk of text as Ollama's structure has them."""
    names = ("id", "object", "created", "choices", "model", "system_fingerprint", "usage")
    return {name: chunk[name] for name in names if name in chunk}


def _late_error(identity: str) -> bytes:
    """Return what Ollama makes of an error in mid-stream: an empty chunk, and no [DONE]."""
    head = _head(identity, "chat.completion.chunk", "", int(time.time()))
    return _frame({**head, "choices": [_choice({"content": ""}, None)]})


def _frame(data: Event) -> bytes:
    return b"data: " + go_json(data) + b"\n\n"


def _head(identity: str, kind: str, model: str, created: int) -> Event:
    return {
        "id": identity,
        "object": kind,
        "created": created,
        "model": model,
        "system_fingerprint": _FINGERPRINT,
    }


def _choice(delta: Event, reason: str | None) -> Event:
    return {"index": 0, "delta": delta, "finish_reason": reason}


def _text_choice(event: Event) -> Event:
    return {"text": event["response"], "index": 0, "finish_reason": event.get("done_reason")}


def _completion(identity: str, event: Event) -> Event:
    message: Event = {"role": "assistant", "content": event["message"]["content"]}
    calls = _tool_calls(event["message"])
    if event["message"].get("thinking"):
        message["reasoning"] = event["message"]["thinking"]
    if calls:
        message["tool_calls"] = calls
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": _reason(event, called=bool(calls)),
    }
    head = _head(identity, "chat.completion", event["model"], int(time.time()))
    return {**head, "choices": [choice], "usage": _usage(event)}


def _reason(event: Event, *, called: bool) -> str:
    reason = str(event["done_reason"])
    return "tool_calls" if called and reason == "stop" else reason


def _tool_calls(message: Event) -> list[Event]:
    return [
        {
            "id": call["id"],
            "index": call["function"]["index"],
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": go_json(call["function"]["arguments"]).decode(),
            },
        }
        for call in message.get("tool_calls", [])
    ]


def _usage(event: Event) -> Event:
    prompt, answer = event.get("prompt_eval_count", 0), event.get("eval_count", 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
    }


def _model(name: str, modified_ns: int) -> Event:
    return {
        "id": name,
        "object": "model",
        "created": modified_ns // 1_000_000_000,
        "owned_by": parse_name(name).namespace,
    }


def _encoded(vector: list[float], encoding: str) -> list[float] | str:
    if encoding != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _messages(body: Body) -> tuple[Message, ...]:
    found: list[Message] = []
    for data in body.objects("messages", "openai.Message"):
        message = Body(data, "Message")
        role = message.text("role")
        content = message.anything("content")
        calls = data.get("tool_calls")
        if isinstance(content, str):
            found.append(Message(role, content + _call_text(calls)))
        elif isinstance(content, list):
            found += [Message(role, _part(part)) for part in content]
        elif calls is None:
            kind = {type(None): "<nil>", bool: "bool", dict: "map[string]interface {}"}
            message_type = kind.get(type(content), "float64")
            raise BadRequestError(f"invalid message content type: {message_type}")
        else:
            found.append(Message(role, _call_text(calls)))
    return tuple(found)


def _call_text(calls: Any) -> str:  # noqa: ANN401 - whatever the client sent
    return "".join(str(call.get("function", "")) for call in calls or [])


def _part(part: Any) -> str:  # noqa: ANN401 - whatever the client sent
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind != "image_url":
        raise BadRequestError("invalid message format")
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if isinstance(url, str) and url.startswith(("http://", "https://")):
        raise BadRequestError(
            "image URLs are not currently supported, please use base64 encoded data instead"
        )
    if not isinstance(url, str) or not url.startswith("data:"):
        raise BadRequestError("invalid image input")
    return ""


def _options(body: Body) -> dict[str, Any]:
    given: dict[str, Any] = {}
    stop = body.anything("stop")
    if isinstance(stop, str):
        given["stop"] = [stop]
    elif isinstance(stop, list):
        given["stop"] = [item for item in stop if isinstance(item, str)]
    limit = body.integer("max_tokens")
    if limit is not None:
        given["num_predict"] = limit
    for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty"):
        value = body.number(name)
        if value is not None:
            given[name] = value
    return given


def _think(body: Body) -> bool | None:
    effort = body.mapping("reasoning").get("effort") or body.text("reasoning_effort")
    if not effort:
        return None
    if effort == "none":
        return False
    if effort in _EFFORTS:
        return True
    raise BadRequestError(
        f'invalid reasoning value: "{effort}" (must be "minimal", "low", "medium", "high", '
        '"xhigh", "ultra", "max", or "none")',
    )


def _form(body: Body) -> Any:  # noqa: ANN401 - "json", a JSON schema or None
    wanted = body.mapping("response_format")
    kind = str(wanted.get("type", "")).strip().lower()
    if kind == "json_object":
        return "json"
    if kind == "json_schema":
        return (wanted.get("json_schema") or {}).get("schema")
    return None
