"""The objects of Ollama's own streams; the OpenAI interface is translated from them, as in Ollama."""

from __future__ import annotations

import random
import string
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from lab.simulated_ollama.engine import Finish
from lab.simulated_ollama.wire import nanoseconds, utc_now

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from lab.simulated_ollama.answers import Piece

__all__ = [
    "Event",
    "chat_events",
    "generate_events",
    "joined_chat",
    "joined_generate",
    "short",
    "text_of",
]

Event = dict[str, Any]

_CALL_ID_LETTERS = string.ascii_lowercase + string.digits


def short(name: str, reason: str, *, chat: bool) -> Event:
    """Return the single object for a load or an unload."""
    text: Event = {"message": {"role": "assistant", "content": ""}} if chat else {"response": ""}
    return {"model": name, "created_at": utc_now(), **text, "done": True, "done_reason": reason}


async def chat_events(
    name: str, pieces: AsyncGenerator[Piece | Finish, None]
) -> AsyncGenerator[Event, None]:
    """Yield the objects of ``/api/chat``."""
    async with aclosing(pieces):
        async for piece in pieces:
            head: Event = {"model": name, "created_at": utc_now()}
            message: Event = {"role": "assistant", "content": ""}
            if not isinstance(piece, Finish):
                message["thinking" if piece.thinking else "content"] = piece.text
                yield {**head, "message": message, "done": False}
                continue
            if piece.tool_calls:
                calls = [_tool_call(index, call) for index, call in enumerate(piece.tool_calls)]
                yield {**head, "message": {**message, "tool_calls": calls}, "done": False}
            yield {**head, "message": message, **_end(piece)}


async def generate_events(
    name: str, pieces: AsyncGenerator[Piece | Finish, None], *, context: bool
) -> AsyncGenerator[Event, None]:
    """Yield the objects of ``/api/generate``; `context` says whether the last one carries it."""
    said = ""
    async with aclosing(pieces):
        async for piece in pieces:
            head: Event = {"model": name, "created_at": utc_now()}
            if isinstance(piece, Finish):
                end = _end(piece)
                told = {"context": _ids_of(piece.prompt + said)} if context else {}
                reason = {key: end.pop(key) for key in ("done", "done_reason")}
                yield {**head, "response": "", **reason, **told, **end}
                continue
            said += piece.text
            if piece.thinking:
                yield {**head, "response": "", "thinking": piece.text, "done": False}
            else:
                yield {**head, "response": piece.text, "done": False}


async def joined_chat(events: AsyncIterator[Event]) -> Event:
    """Return the one object of an unstreamed ``/api/chat``."""
    texts: dict[str, str] = {"content": "", "thinking": ""}
    calls: list[Event] = []
    last: Event = {}
    async for last in events:
        for key in texts:
            texts[key] += last["message"].get(key, "")
        calls += last["message"].get("tool_calls", [])
    message: Event = {"role": "assistant", "content": texts["content"]}
    if texts["thinking"]:
        message["thinking"] = texts["thinking"]
    if calls:
        message["tool_calls"] = calls
    return {**last, "message": message}


async def joined_generate(events: AsyncIterator[Event]) -> Event:
    """Return the one object of an unstreamed ``/api/generate``."""
    response = thinking = ""
    last: Event = {}
    async for last in events:
        response += last["response"]
        thinking += last.get("thinking", "")
    return {**last, "response": response, **({"thinking": thinking} if thinking else {})}


def text_of(context: list[int]) -> str:
    """Return the text of a `context` that an earlier answer carried."""
    return "".join(chr(number) for number in context if 0 < number <= sys.maxunicode)


def _ids_of(text: str) -> list[int]:
    """Return numbers that stand for a text: one per letter, for there is no vocabulary."""
    return [ord(letter) for letter in text]


def _end(finish: Finish) -> Event:
    metrics = finish.metrics
    figures = {
        "total_duration": nanoseconds(finish.total),
        "load_duration": nanoseconds(finish.load),
        "prompt_eval_count": metrics.prompt_tokens,
        "prompt_eval_duration": nanoseconds(metrics.prompt_seconds),
        "eval_count": metrics.answer_tokens,
        "eval_duration": nanoseconds(metrics.answer_seconds),
    }
    present = {key: value for key, value in figures.items() if value}
    return {"done": True, "done_reason": finish.reason, **present}


def _tool_call(index: int, call: dict[str, Any]) -> Event:
    letters = "".join(random.choices(_CALL_ID_LETTERS, k=8))
    return {"id": f"call_{letters}", "function": {"index": index, **call}}
