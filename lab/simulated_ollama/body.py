"""Request bodies, read as Go reads them: unknown fields are ignored, wrong types are an error 400."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lab.simulated_ollama.errors import BadRequestError
from lab.simulated_ollama.settings import FOREVER, parse_duration

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["Body", "read_body"]


class Body:
    """A JSON object with fields of known types; `struct` is Go's name of it in error texts."""

    def __init__(self, data: dict[str, Any], struct: str) -> None:
        self._data = data
        self._struct = struct

    def text(self, name: str) -> str:
        """Return a string; empty where it is absent."""
        return str(self._typed(name, str, "string") or "")

    def boolean(self, name: str) -> bool | None:
        """Return a boolean; None where it is absent."""
        value = self._typed(name, bool, "bool")
        return None if value is None else bool(value)

    def integer(self, name: str) -> int | None:
        """Return a whole number; None where it is absent."""
        value = self._data.get(name)
        if isinstance(value, float):
            raise self._mismatch(f"number {value}", name, "int")
        found = self._typed(name, int, "int")
        return None if found is None else int(found)

    def number(self, name: str) -> float | None:
        """Return a number; None where it is absent."""
        found = self._typed(name, (int, float), "float64")
        return None if found is None else float(found)

    def integers(self, name: str) -> list[int]:
        """Return a list of whole numbers; empty where it is absent."""
        items = self._typed(name, list, "[]int") or []
        for item in items:
            if isinstance(item, bool) or not isinstance(item, int):
                raise self._mismatch(_kind(item), name, "int")
        return list(items)

    def mapping(self, name: str, go_type: str = "map[string]interface {}") -> dict[str, Any]:
        """Return an object; empty where it is absent."""
        return dict(self._typed(name, dict, go_type) or {})

    def objects(self, name: str, go_type: str) -> list[dict[str, Any]]:
        """Return a list of objects; empty where it is absent."""
        items = self._typed(name, list, f"[]{go_type}") or []
        for item in items:
            if not isinstance(item, dict):
                raise self._mismatch(_kind(item), name, go_type)
        return list(items)

    def anything(self, name: str) -> Any:  # noqa: ANN401 - the field takes several types
        """Return a value as it is; None where it is absent."""
        return self._data.get(name)

    def keep_alive(self) -> float | None:
        """Return seconds, `FOREVER` for any negative value; None where it is absent.

        Raises:
            BadRequestError: where it is neither a number nor a Go duration.

        """
        value = self._data.get("keep_alive")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise BadRequestError(f"Unsupported type: '{_kind(value)}'")
        try:
            seconds = parse_duration(value) if isinstance(value, str) else float(value)
        except ValueError as error:
            raise BadRequestError(str(error)) from None
        return FOREVER if seconds < 0 else seconds

    def _typed(self, name: str, kinds: type | tuple[type, ...], go_type: str) -> Any:  # noqa: ANN401 - the caller names the type
        value = self._data.get(name)
        if value is None:
            return None
        is_unwanted_bool = isinstance(value, bool) and kinds is not bool
        if is_unwanted_bool or not isinstance(value, kinds):
            raise self._mismatch(_kind(value), name, go_type)
        return value

    def _mismatch(self, kind: str, name: str, go_type: str) -> BadRequestError:
        return BadRequestError(
            f"json: cannot unmarshal {kind} into Go struct field "
            f"{self._struct}.{name} of type {go_type}",
        )


async def read_body(request: Request, struct: str, *, when_empty: str) -> Body:
    """Read the body of a request; `when_empty` is the text of the error for none at all.

    Raises:
        BadRequestError: with Go's text where it is no JSON object.

    """
    content = await request.body()
    if not content.strip():
        raise BadRequestError(when_empty)
    try:
        data = json.loads(content)
    except ValueError as error:
        raise BadRequestError(_syntax_error(content, error)) from None
    if not isinstance(data, dict):
        kind = _kind(data)
        message = f"json: cannot unmarshal {kind} into Go value of type {_package(struct)}{struct}"
        raise BadRequestError(message)
    return Body(data, struct)


_OPENAI_STRUCTS = frozenset({"ChatCompletionRequest", "CompletionRequest", "EmbedRequest_"})


def _package(struct: str) -> str:
    return "openai." if struct in _OPENAI_STRUCTS else "api."


def _syntax_error(content: bytes, error: ValueError) -> str:
    text = content.decode(errors="replace")
    at = error.pos if isinstance(error, json.JSONDecodeError) else 0
    if at >= len(text.rstrip()):
        return "unexpected EOF"
    where = "beginning of value" if at == 0 or text[:at].rstrip()[-1:] in ":,[" else "value"
    return f"invalid character {_character(text[at])} looking for {where}"


def _character(letter: str) -> str:
    return {"'": "'\\''", '"': "'\"'"}.get(letter, f"'{letter}'")


def _kind(value: Any) -> str:  # noqa: ANN401 - any JSON value
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "bool"),
        (str, "string"),
        (int, "number"),
        (float, "number"),
        (list, "array"),
        (dict, "object"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")
