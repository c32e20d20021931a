"""How long a node may be silent before a request is taken from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litellm_plugins.schema import Routing

__all__ = ["whole_answer_seconds"]

_SLOWEST_TOKENS_PER_SECOND = 5.0
"""A 7B model on a small machine without a GPU. Slower ones exist, and seldom write to the limit."""


def whole_answer_seconds(body: Mapping[str, Any], routing: Routing, context_length: int) -> float:
    """Return the seconds within which an answer that is not streamed must be there.

    Its first byte comes with its last token, so silence is no sign of a fault until all its
    tokens could have been written: the limit that the client set, else the context.
    """
    limit = body.get("max_tokens")
    tokens = limit if isinstance(limit, int) and 0 < limit < context_length else context_length
    return routing.first_token_timeout_seconds + tokens / _SLOWEST_TOKENS_PER_SECOND
