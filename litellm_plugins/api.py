"""The routes that are ours: health, and what the fleet has.

``GET /v1/models`` is answered here too: LiteLLM's own list knows the models, but neither their other
names nor when they were pulled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from litellm_plugins.auth import owner_of
from litellm_plugins.errors import ApiError
from litellm_plugins.names import canonical_model, display_model
from litellm_plugins.tuning import tuning_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.requests import Request

    from litellm_plugins.discovery import Discovery
    from litellm_plugins.routing.dispatch import Dispatcher
    from litellm_plugins.routing.nodes import PulledModel
    from litellm_plugins.schema import Fleet

__all__ = ["Api"]


class Api:
    """Answers from the gateway's own state; none of them waits for a node."""

    def __init__(
        self, fleet: Callable[[], Fleet], dispatcher: Dispatcher, discovery: Discovery
    ) -> None:
        self._fleet = fleet
        self._dispatcher = dispatcher
        self._discovery = discovery

    def application(self) -> Starlette:
        """Return the application; whatever else is asked of it is 404, as JSON."""
        return Starlette(
            routes=[
                Route("/health/live", self._live, methods=["GET"]),
                Route("/health/ready", self._ready, methods=["GET"]),
                Route("/api/models", self._models, methods=["GET"]),
                Route("/api/nodes", self._nodes, methods=["GET"]),
                Route("/v1/models", self._openai_models, methods=["GET"]),
                Route("/v1/models/{model:path}", self._openai_model, methods=["GET"]),
            ],
            exception_handlers={ApiError: _answer, 404: _no_route, 405: _no_method},
        )

    async def _live(self, request: Request) -> JSONResponse:  # noqa: ARG002 - Starlette's signature
        return JSONResponse({"status": "live"})

    async def _ready(self, request: Request) -> JSONResponse:  # noqa: ARG002 - Starlette's signature
        if not self._discovery.is_ready:
            raise ApiError(503, "not every node has been looked at yet")
        return JSONResponse({"status": "ready"})

    async def _models(self, request: Request) -> JSONResponse:
        has_key = _carries_key(request)
        if has_key or not self._fleet().gateway.public_models:
            self._require_key(request)
        describe = self._model if has_key else self._public_model
        return JSONResponse({"models": [describe(model) for model in self._sorted_models()]})

    async def _nodes(self, request: Request) -> JSONResponse:
        self._require_key(request)
        return JSONResponse({"nodes": [self._node(name) for name in self._dispatcher.nodes]})

    async def _openai_models(self, request: Request) -> JSONResponse:
        self._require_key(request)
        listed = [self._openai(model) for model in self._sorted_models()]
        return JSONResponse({"object": "list", "data": listed})

    async def _openai_model(self, request: Request) -> JSONResponse:
        self._require_key(request)
        model = canonical_model(request.path_params["model"])
        self._dispatcher.check_model(model)
        return JSONResponse(self._openai(model))

    def _require_key(self, request: Request) -> None:
        owner_of(request.scope["headers"], self._fleet().keys)

    def _sorted_models(self) -> list[str]:
        return sorted(self._dispatcher.models())

    def _pulled(self, model: str) -> PulledModel:
        """Return the model as the first node has it that has it."""
        node = self._dispatcher.nodes_with(model)[0]
        return self._dispatcher.status(node).models[model]

    def _public_model(self, model: str) -> dict[str, Any]:
        return {"name": display_model(model), "category": self._fleet().model(model).category.value}

    def _model(self, model: str) -> dict[str, Any]:
        pulled = self._pulled(model)
        return {
            **self._public_model(model),
            "best_for": self._fleet().model(model).best_for,
            "family": pulled.family,
            "capabilities": sorted(pulled.capabilities),
            "size_bytes": pulled.size_bytes,
            "nodes": [self._place(model, node) for node in self._dispatcher.nodes_with(model)],
        }

    def _place(self, model: str, node: str) -> dict[str, Any]:
        status = self._dispatcher.status(node)
        return {
            "name": node,
            "well": status.is_well,
            "loaded": model in status.loaded,
            "digest": status.models[model].digest,
        }

    def _node(self, name: str) -> dict[str, Any]:
        node = self._dispatcher.nodes[name]
        status = self._dispatcher.status(name)
        return {
            "name": name,
            "address": str(node.address),
            "tier": node.effective_tier.value,
            "gpu": node.hardware.gpu.value,
            "well": status.is_well,
            "error": status.error,
            "drain": node.drain,
            "ollama": status.version,
            "slots": tuning_of(node).num_parallel,
            "busy": self._dispatcher.reservations.on_node(name),
            "models": _displayed(status.models),
            "loaded": _displayed(status.loaded),
        }

    def _openai(self, model: str) -> dict[str, Any]:
        return {
            "id": display_model(model),
            "object": "model",
            "created": self._pulled(model).modified,
            "owned_by": "library",
        }


def _displayed(models: Iterable[str]) -> list[str]:
    return sorted(display_model(model) for model in models)


def _carries_key(request: Request) -> bool:
    return "authorization" in request.headers or "x-api-key" in request.headers


async def _answer(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ApiError):
        raise error
    return JSONResponse(error.body(), error.status)


async def _no_route(request: Request, _: Exception) -> JSONResponse:
    return await _answer(request, ApiError(404, f"there is no {request.url.path} here"))


async def _no_method(request: Request, _: Exception) -> JSONResponse:
    return await _answer(request, ApiError(405, f"{request.method} is not for {request.url.path}"))
