"""What a client may put into a body."""

from __future__ import annotations

import json

import pytest

from litellm_plugins.body import checked_body
from litellm_plugins.errors import ApiError

CHAT = "/v1/chat/completions"

REFUSED = {
    "not JSON": (b"{", "the body is not valid JSON"),
    "not an object": (b"[]", "the body must be a JSON object"),
    "nested without end": (b"[" * 100_000, "the body is not valid JSON"),
    "not text": (b"\xff\xfe{}", "the body is not valid JSON"),
    "no model": (b"{}", "model is missing"),
    "empty model": (b'{"model": " "}', "model is missing"),
    "a model that is no name": (b'{"model": ["a"]}', "model is missing"),
    "a list of models": (b'{"model": "a,b"}', "model must be one name, not a list: 'a,b'"),
    "a node that is no name": (b'{"model": "a", "node": 1}', "node must be the name of a node"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(content: bytes, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        checked_body(CHAT, content)
    assert caught.value.status == 400
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    "key", ["api_base", "api_key", "base_url", "fallbacks", "mock_response", "user_config"]
)
def test_a_key_that_would_steer_the_gateway_is_refused_by_name(key: str) -> None:
    with pytest.raises(ApiError, match=f"^{key} cannot be set") as caught:
        checked_body(CHAT, json.dumps({"model": "a", key: "x"}).encode())
    assert (caught.value.status, caught.value.param) == (400, key)


def test_what_the_route_does_not_know_is_left_out() -> None:
    body = {
        "model": "a",
        "node": "big",
        "messages": [],
        "max_tokens": 3,
        "metadata": {"previous_models": []},
        "num_retries": 9,
        "timeout": 1,
        "litellm_metadata": {},
        "specific_deployment": True,
        "input": "for embeddings only",
    }
    assert checked_body(CHAT, json.dumps(body).encode()) == {
        "model": "a",
        "node": "big",
        "messages": [],
        "max_tokens": 3,
    }
    assert checked_body("/v1/embeddings", json.dumps(body).encode()) == {
        "model": "a",
        "node": "big",
        "input": "for embeddings only",
    }
