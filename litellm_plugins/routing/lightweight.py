"""Which requests a CPU node may take over from busy GPUs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litellm_plugins.schema import Model, Routing

__all__ = ["estimate_prompt_tokens", "is_lightweight"]

_BYTES_PER_TOKEN = 4
"""Rule of thumb for English text; JSON around it stands for what a chat template adds."""

_PROMPT_KEYS = ("messages", "prompt", "suffix", "input", "tools")
_ANSWER_KEYS = ("max_tokens", "max_completion_tokens")


def is_lightweight(
    body: Mapping[str, Any], model: Model, routing: Routing, *, is_embedding: bool
) -> bool:
    """Return whether a request is short work: by its model, or by its prompt and its answer's limit.

    An answer without a limit is not short.
    """
    if is_embedding or model.is_lightweight:
        return True
    limit = next((body[key] for key in _ANSWER_KEYS if body.get(key) is not None), None)
    if not isinstance(limit, int) or limit > routing.lightweight_answer_tokens:
        return False
    return estimate_prompt_tokens(body) <= routing.lightweight_prompt_tokens


def estimate_prompt_tokens(body: Mapping[str, Any]) -> int:
    """Return about how many tokens a request's prompt has; images count by their encoded size."""
    prompt = [body[key] for key in _PROMPT_KEYS if key in body]
    text = json.dumps(prompt, ensure_ascii=False, separators=(",", ":"))
    return -(-len(text.encode(errors="replace")) // _BYTES_PER_TOKEN)
