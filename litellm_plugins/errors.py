"""Errors as the endpoint answers them: OpenAI's JSON form, always, in words that name the matter."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import Send

__all__ = ["ApiError", "error_from_litellm", "send_error"]

_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}

_LITELLM_PREFIX = re.compile(
    r"^(?:(?:litellm\.)?(?:\w+(?:Error|Exception)|Timeout(?: Error)?)\s*[:-]\s*|Error code: \d+ - )+"
)
"""What LiteLLM puts before a provider's own words, e.g.
``litellm.NotFoundError: NotFoundError: Hosted_vllmException - ``."""


class ApiError(Exception):
    """An answer other than success, with its HTTP status."""

    def __init__(self, status: int, message: str, *, param: str | None = None) -> None:
        self.status = status
        self.message = message
        self.param = param
        super().__init__(message)

    @property
    def type(self) -> str:
        """OpenAI's word for this kind of error."""
        return _TYPES.get(
            self.status, "invalid_request_error" if self.status < 500 else "server_error"
        )

    def body(self) -> dict[str, Any]:
        """Return the JSON body; the code is a string, as in LiteLLM's own errors."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": str(self.status),
            }
        }


async def send_error(
    send: Send, error: ApiError, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """Answer a request with an error."""
    content = json.dumps(error.body()).encode()
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send(
        {
            "type": "http.response.start",
            "status": error.status,
            "headers": [*own, *(headers or [])],
        }
    )
    await send({"type": "http.response.body", "body": content})


def error_from_litellm(status: int, content: bytes) -> ApiError:
    """Read an error as LiteLLM's application answers it.

    It has three forms: OpenAI's, FastAPI's ``{"detail": ...}``, and plain text where its own
    error handling failed. A node's message is inside LiteLLM's, as text or as JSON.
    """
    try:
        data = json.loads(content)
    except ValueError:
        return ApiError(status, _plain(content.decode(errors="replace")))
    error = data.get("error", data.get("detail", data)) if isinstance(data, dict) else data
    if not isinstance(error, dict):
        return ApiError(status, _plain(str(error)))
    param = error.get("param")
    return ApiError(status, _plain(str(error.get("message", error))), param=param)


def _plain(message: str) -> str:
    words = _LITELLM_PREFIX.sub("", message.strip())
    try:
        inner = json.loads(words)["error"]
    except (ValueError, KeyError, TypeError):
        return words or "no reason was given"
    return str(inner["message"] if isinstance(inner, dict) and "message" in inner else inner)
