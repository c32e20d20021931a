"""What a client may put into the body of a request.

LiteLLM reads many keys of a body as orders to itself: where to send the request, with which
credentials, how often. So only what the OpenAI API and Ollama know is let through.
"""

from __future__ import annotations

import json
from typing import Any

from litellm_plugins.errors import ApiError

__all__ = ["ROUTES", "checked_body"]

_SAMPLING = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_tokens",
        "n",
        "presence_penalty",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
    }
)

_KNOWN = {
    "/v1/chat/completions": _SAMPLING
    | {
        "max_completion_tokens",
        "messages",
        "parallel_tool_calls",
        "reasoning",
        "reasoning_effort",
        "response_format",
        "tool_choice",
        "tools",
        "top_logprobs",
    },
    "/v1/completions": _SAMPLING | {"best_of", "echo", "prompt", "suffix"},
    "/v1/embeddings": frozenset({"dimensions", "encoding_format", "input"}),
}

ROUTES = frozenset(_KNOWN)
"""The paths of inference."""

_OURS = frozenset({"model", "node"})

_REFUSED = frozenset(
    {
        "api_base",
        "api_key",
        "api_version",
        "base_url",
        "custom_llm_provider",
        "extra_body",
        "extra_headers",
        "fallbacks",
        "litellm_params",
        "mock_response",
        "model_list",
        "models",
        "user_config",
    }
)
"""Keys that someone sends because they matter to LiteLLM. Dropping them in silence would mislead."""


def checked_body(path: str, content: bytes) -> dict[str, Any]:
    """Return the body of a request with the keys that its route knows; others are ignored.

    Raises:
        ApiError: 400, naming the key, if the body is not what the route takes.

    """
    body = _object(content)
    for key in sorted(_REFUSED & body.keys()):
        raise ApiError(400, f"{key} cannot be set by a client of this endpoint", param=key)
    _check_model(body.get("model"))
    _check_node(body.get("node"))
    known = _KNOWN[path] | _OURS
    return {key: value for key, value in body.items() if key in known}


def _object(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise ApiError(400, "the body must be a JSON object")
    return body


def _check_model(model: object) -> None:
    if not isinstance(model, str) or not model.strip():
        raise ApiError(400, "model is missing; it is the name of a model", param="model")
    if "," in model:
        raise ApiError(400, f"model must be one name, not a list: {model!r}", param="model")


def _check_node(node: object) -> None:
    if node is not None and not isinstance(node, str):
        raise ApiError(400, "node must be the name of a node", param="node")
