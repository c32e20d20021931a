"""Failures as a client sees them."""

from __future__ import annotations

from http import HTTPStatus

__all__ = ["BUSY", "ApiError", "BadRequestError", "canceled", "no_such_model", "not_pulled"]

BUSY = "server busy, please try again.  maximum pending requests exceeded"

_CLIENT_CLOSED = 499


class ApiError(Exception):
    """An answer other than 200; `message` is Ollama's own text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = int(status)
        self.message = message


class BadRequestError(ApiError):
    """A request that cannot be read. Ollama's OpenAI interface frames this one unlike the others."""

    def __init__(self, message: str) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, message)


def no_such_model(name: str) -> ApiError:
    """Return what chat and generate say of an unknown model."""
    return ApiError(HTTPStatus.NOT_FOUND, f"model '{name}' not found")


def not_pulled(name: str) -> ApiError:
    """Return what embeddings say of an unknown model."""
    return ApiError(HTTPStatus.NOT_FOUND, f'model "{name}" not found, try pulling it first')


def canceled() -> ApiError:
    """Return what a request ends with whose client is gone."""
    return ApiError(_CLIENT_CLOSED, "request canceled")
