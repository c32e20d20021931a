"""What the simulation says: always that it is simulated, which model was asked, and on which node.

Three markers in the last message of the user steer it, so that a test or a demo can ask for what it
needs: ``[[tokens=200]]`` makes the answer so many tokens long, ``[[call NAME {"key": "value"}]]``
makes it a tool call (if the request offers the tool), and ``[[thinking=50]]`` sets the length of
the thinking of a model that thinks.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Answer", "Piece", "answer", "tokens_of"]

_TOKEN = re.compile(r"\s?[^\W_]{1,6}|\s?[^\w\s]|\s+|_")
_LENGTH = re.compile(r"\[\[tokens=(\d+)\]\]")
_THINKING = re.compile(r"\[\[thinking=(\d+)\]\]")
_CALL = re.compile(r"\[\[call ([\w.-]+)(?: (\{.*?\}))?\]\]", re.DOTALL)
_SHORTEST, _SPREAD = 40, 80


@dataclass(frozen=True)
class Piece:
    """One token of the answer."""

    text: str
    thinking: bool = False


@dataclass(frozen=True)
class Answer:
    """A whole answer: its tokens in order, and the tool calls that stand for content."""

    pieces: tuple[Piece, ...]
    tool_calls: tuple[dict[str, Any], ...] = ()


def tokens_of(text: str) -> list[str]:
    """Split a text into tokens, about four letters each; joined they are the text again."""
    return _TOKEN.findall(text)


def answer(
    *,
    model: str,
    node: str,
    conversation: str,
    asked: str,
    thinks: bool,
    tools: Sequence[str],
    form: Any,  # noqa: ANN401 - "json", a JSON schema or None
    already: str = "",
) -> Answer:
    """Compose an answer.

    `conversation` decides its length where `asked`, the last message of the user, has no marker;
    `already` is the beginning of the answer that the client has, which is continued.
    """
    call = _tool_call(asked, tools)
    if call is not None:
        return Answer(tuple(Piece(token) for token in tokens_of(json.dumps(call))), (call,))
    if form:
        body = json.dumps(_instance(form, model, node))
        return Answer(tuple(Piece(token) for token in tokens_of(body)))
    length = _marked(_LENGTH, asked, _SHORTEST + _number(conversation) % _SPREAD)
    said = list(_prose(model, node, length))[len(tokens_of(already)) :]
    thought = _thoughts(model, _marked(_THINKING, asked, 24)) if thinks and not already else ()
    return Answer((*thought, *(Piece(token) for token in said)))


def _prose(model: str, node: str, length: int) -> Iterator[str]:
    opening = (
        f"This is a simulated answer of {model} on {node}: no language model ran, "
        "only the time that one would have taken."
    )
    tokens = tokens_of(opening)
    sentence = 0
    while len(tokens) < length:
        sentence += 1
        tokens += tokens_of(f" Simulated sentence {sentence} fills the length that was asked for.")
    return iter(tokens[:length])


def _thoughts(model: str, length: int) -> tuple[Piece, ...]:
    tokens = tokens_of(f"Simulated thinking of {model}.")
    while len(tokens) < length:
        tokens += tokens_of(" Still only simulated thinking.")
    return tuple(Piece(token, thinking=True) for token in tokens[:length])


def _tool_call(asked: str, tools: Sequence[str]) -> dict[str, Any] | None:
    found = _CALL.search(asked)
    if found is None or found[1] not in tools:
        return None
    try:
        arguments = json.loads(found[2] or "{}")
    except ValueError:
        return None
    return {"name": found[1], "arguments": arguments}


def _instance(form: Any, model: str, node: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the least value that a JSON schema admits."""
    if not isinstance(form, dict):
        return {"simulated": True, "model": model, "node": node}
    if "const" in form:
        return form["const"]
    if form.get("enum"):
        return form["enum"][0]
    kind = form.get("type", "object")
    if kind == "object":
        return {
            key: _instance(inner, model, node) for key, inner in form.get("properties", {}).items()
        }
    if kind == "array":
        return [_instance(form.get("items", {}), model, node)] * int(form.get("minItems", 0))
    values: dict[str, Any] = {"string": f"simulated by {model} on {node}", "boolean": True}
    return values.get(kind, 0 if kind in {"integer", "number"} else None)


def _marked(marker: re.Pattern[str], text: str, default: int) -> int:
    found = marker.search(text)
    return int(found[1]) if found else default


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
