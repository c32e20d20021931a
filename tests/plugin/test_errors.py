"""LiteLLM's errors, in the words of whoever made them."""

from __future__ import annotations

import json

import pytest

from litellm_plugins.errors import error_from_litellm


def of_litellm(message: str) -> str:
    return json.dumps({"error": {"message": message, "param": None}})


PLAIN = {
    "a node's error as JSON inside text": (
        of_litellm(
            "litellm.NotFoundError: NotFoundError: Hosted_vllmException - "
            '{"error": {"message": "model \'x\' not found", "type": "not_found_error"}}'
        ),
        "model 'x' not found",
    ),
    "a failed connection": (
        of_litellm(
            "litellm.InternalServerError: InternalServerError: Hosted_vllmException - "
            "[Errno 104] Connection reset by peer"
        ),
        "[Errno 104] Connection reset by peer",
    ),
    "a timeout": (
        of_litellm(
            "litellm.Timeout: Timeout Error: Hosted_vllmException - "
            "litellm.Timeout: Connection timed out. Timeout passed=3.0"
        ),
        "Connection timed out. Timeout passed=3.0",
    ),
    "one in words of its own": (
        '{"error": {"message": "messages is missing"}}',
        "messages is missing",
    ),
    "FastAPI's form": ('{"detail": "Not Found"}', "Not Found"),
    "a sentence": ("Internal Server Error", "Internal Server Error"),
    "nothing": ("", "no reason was given"),
    "a list": ("[1]", "[1]"),
    "no message": ('{"error": {}}', "{}"),
}


@pytest.mark.parametrize(("content", "message"), PLAIN.values(), ids=PLAIN.keys())
def test_message(content: str, message: str) -> None:
    error = error_from_litellm(500, content.encode())
    assert error.message == message
    assert error.body() == {
        "error": {"message": message, "type": "server_error", "param": None, "code": "500"}
    }
