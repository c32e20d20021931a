"""What LiteLLM asks us for each request: which model is meant, and which node gets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litellm.exceptions import ServiceUnavailableError
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import ProxyException, UserAPIKeyAuth

from litellm_plugins.errors import ApiError
from litellm_plugins.names import canonical_model, split_node
from litellm_plugins.record import RECORD, Record
from litellm_plugins.routing.choice import Wish
from litellm_plugins.routing.lightweight import is_lightweight
from litellm_plugins.routing.patience import whole_answer_seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import Request

    from litellm_plugins.routing.dispatch import Dispatcher
    from litellm_plugins.schema import Fleet

__all__ = ["Hooks", "authenticate"]

_EMBEDDING_CALLS = frozenset({"embeddings", "aembedding"})


async def authenticate(request: Request, api_key: str) -> UserAPIKeyAuth:  # noqa: ARG001 - LiteLLM's signature
    """Tell LiteLLM who asks; the key was checked before, and LiteLLM never sees it."""
    record = RECORD.get(None)
    if record is None:
        raise ProxyException(
            "the request came in beside the gateway", "authentication_error", None, 401
        )
    return UserAPIKeyAuth(api_key=f"name:{record.owner}", key_alias=record.owner)


class Hooks(CustomLogger):
    """Our part in LiteLLM's routing. All state is in the dispatcher and the request's record."""

    def __init__(
        self,
        fleet: Callable[[], Fleet],
        dispatcher: Dispatcher,
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__()
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._refresh = refresh

    async def async_pre_call_hook(
        self,
        user_api_key_dict: UserAPIKeyAuth,  # noqa: ARG002 - LiteLLM's signature
        cache: Any,  # noqa: ANN401, ARG002
        data: dict[str, Any],
        call_type: str,
    ) -> dict[str, Any]:
        """Put the canonical name of the model where the client's was, once a node can answer for it."""
        record = RECORD.get()
        named = data.pop("node", None)
        try:
            model = record.model or await self._resolve(record, data, named, call_type)
        except ApiError as error:
            raise ProxyException(error.message, error.type, error.param, error.status) from None
        data["model"] = model
        if data.get("max_tokens") is None and data.get("max_completion_tokens") is not None:
            # Ollama ignores OpenAI's newer name, and would answer without a limit.
            data["max_tokens"] = data.pop("max_completion_tokens")
        if call_type not in _EMBEDDING_CALLS and not data.get("stream"):
            context = self._dispatcher.longest_context(model)
            data["timeout"] = whole_answer_seconds(data, self._fleet().routing, context)
        return data

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[Any],
        messages: list[Any] | None,  # noqa: ARG002 - LiteLLM's signature
        request_kwargs: dict[str, Any] | None = None,  # noqa: ARG002
        parent_otel_span: Any = None,  # noqa: ANN401, ARG002
    ) -> list[dict[str, Any]]:
        """Return the one deployment that gets the request, with its slot taken."""
        record = RECORD.get()
        found = self._dispatcher.dispatch(model, record.wish)
        if found is None:
            raise ServiceUnavailableError(
                message=f"no node is left for {model}", model=model, llm_provider=""
            )
        choice, reservation = found
        record.take(choice, reservation)
        return [item for item in healthy_deployments if item["model_info"]["node"] == choice.node]

    async def _resolve(
        self, record: Record, data: dict[str, Any], named: str | None, call_type: str
    ) -> str:
        name, suffix = split_node(data["model"])
        model = canonical_model(name)
        node = _one_node(suffix, named, record.named_node)
        if not self._is_there(model, node):
            await self._refresh()
        self._dispatcher.admit(model, node)
        fleet = self._fleet()
        light = is_lightweight(
            data,
            fleet.model(model),
            fleet.routing,
            is_embedding=call_type in _EMBEDDING_CALLS,
        )
        record.model = model
        record.wish = Wish(node, light)
        return model

    def _is_there(self, model: str, node: str | None) -> bool:
        having = self._dispatcher.nodes_with(model)
        return bool(having) if node is None else node in having


def _one_node(*named: str | None) -> str | None:
    """Return the node that a request names, in the model's name, the body or the header."""
    names = {name.strip().lower() for name in named if name is not None and name.strip()}
    if len(names) > 1:
        raise ApiError(
            400, f"the request names several nodes: {', '.join(sorted(names))}", param="node"
        )
    return next(iter(names), None)
