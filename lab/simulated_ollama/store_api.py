"""Ollama's own HTTP interface to the store: lists, what is loaded, show, copy, delete."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from lab.simulated_ollama.body import read_body
from lab.simulated_ollama.errors import ApiError, no_such_model
from lab.simulated_ollama.names import parse_name
from lab.simulated_ollama.registry import PullError
from lab.simulated_ollama.responses import GoJson, Streamed, Text, while_connected
from lab.simulated_ollama.settings import FOREVER
from lab.simulated_ollama.store import StoreError, Weights
from lab.simulated_ollama.wire import go_json, quoted, rfc3339

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from lab.simulated_ollama.engine import Engine
    from lab.simulated_ollama.names import ModelName
    from lab.simulated_ollama.registry import Progress, Puller
    from lab.simulated_ollama.scheduler import Loaded
    from lab.simulated_ollama.store import Manifest, Model

__all__ = ["StoreApi"]

_EMPTY = "missing request body"
_LONGEST_SECONDS = (1 << 63) / 1e9
"""The longest duration that Go knows: Ollama adds it for a model that never expires."""


class StoreApi:
    """The handlers."""

    def __init__(self, engine: Engine, puller: Puller, version: str, *, cloud: bool) -> None:
        self._engine = engine
        self._puller = puller
        self._version = version
        self._cloud = cloud

    def routes(self) -> list[Route]:
        """Return the routes of this interface; those of GET take HEAD too."""
        return [
            Route("/", self.root, methods=["GET"]),
            Route("/api/version", self.version, methods=["GET"]),
            Route("/api/status", self.status, methods=["GET"]),
            Route("/api/tags", self.tags, methods=["GET"]),
            Route("/api/ps", self.ps, methods=["GET"]),
            Route("/api/show", self.show, methods=["POST"]),
            Route("/api/pull", self.pull, methods=["POST"]),
            Route("/api/copy", self.copy, methods=["POST"]),
            Route("/api/delete", self.delete, methods=["DELETE"]),
        ]

    async def root(self, request: Request) -> Response:
        """Say that the server is there."""
        del request
        return Text("Ollama is running", media_type="text/plain; charset=utf-8")

    async def version(self, request: Request) -> Response:
        """Return the version."""
        del request
        return GoJson({"version": self._version})

    async def status(self, request: Request) -> Response:
        """Return whether models of the cloud are allowed."""
        del request
        source = "none" if self._cloud else "env"
        return GoJson({"cloud": {"disabled": not self._cloud, "source": source}})

    async def tags(self, request: Request) -> Response:
        """List the models on disk, last changed first."""
        del request
        return GoJson({"models": [self._listed(item) for item in self._engine.store.list()]})

    async def ps(self, request: Request) -> Response:
        """List the models in memory, the one that stays longest first."""
        del request
        loaded = sorted(self._engine.scheduler.loaded, key=_expiry, reverse=True)
        return GoJson({"models": [_running(item) for item in loaded]})

    async def show(self, request: Request) -> Response:
        """Describe one model."""
        body = await read_body(request, "ShowRequest", when_empty=_EMPTY)
        name = body.text("model") or body.text("name")
        if not name:
            raise ApiError(HTTPStatus.BAD_REQUEST, "model is required")
        parsed = _valid(name)
        try:
            model = self._engine.store.model(parsed)
        except StoreError as error:
            raise ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from None
        if model is None or model.weights is not Weights.WHOLE:
            raise no_such_model(parsed.shortest)
        return GoJson(_shown(model))

    async def pull(self, request: Request) -> Response:
        """Fetch a model; a failure is a line of the stream, whose status is 200 all the same."""
        body = await read_body(request, "PullRequest", when_empty=_EMPTY)
        name = self._engine.store.existing_name(_valid(body.text("model") or body.text("name")))
        lines = self._puller.pull(name, insecure=bool(body.boolean("insecure")))
        if body.boolean("stream") is False:
            last = await while_connected(request.receive, _last(lines))
            return GoJson(last)
        return Streamed(_ndjson(lines), "application/x-ndjson", _error_line)

    async def copy(self, request: Request) -> Response:
        """Give a model a second name."""
        body = await read_body(request, "CopyRequest", when_empty=_EMPTY)
        source, destination = body.text("source"), body.text("destination")
        for role, name in (("source", source), ("destination", destination)):
            if not parse_name(name).is_valid:
                message = f"{role} {quoted(name)} is invalid"
                raise ApiError(HTTPStatus.BAD_REQUEST, message)
        if not self._engine.store.copy(parse_name(source), parse_name(destination)):
            raise ApiError(HTTPStatus.NOT_FOUND, f"model {quoted(source)} not found")
        return Response(status_code=HTTPStatus.OK)

    async def delete(self, request: Request) -> Response:
        """Remove a model."""
        body = await read_body(request, "DeleteRequest", when_empty=_EMPTY)
        name = body.text("model") or body.text("name")
        parsed = parse_name(name)
        if not parsed.is_valid:
            raise ApiError(HTTPStatus.BAD_REQUEST, f"name {quoted(name)} is invalid")
        if not self._engine.store.delete(parsed):
            raise no_such_model(name)
        return Response(status_code=HTTPStatus.OK)

    def _listed(self, manifest: Manifest) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "name": manifest.name.shortest,
            "model": manifest.name.shortest,
            "modified_at": rfc3339(manifest.modified_ns),
            "size": manifest.size,
            "digest": manifest.digest,
        }
        try:
            model = self._engine.store.model_of(manifest)
        except StoreError:
            model = None
        if model is None:
            return {**entry, "details": {}}
        if model.weights is not Weights.WHOLE:
            return {**entry, "details": model.details}
        details = {
            **model.details,
            "context_length": model.header.context_length,
            "embedding_length": model.header.embedding_length,
        }
        return {**entry, "details": details, "capabilities": list(model.header.capabilities)}


async def _ndjson(lines: AsyncIterator[Progress]) -> AsyncIterator[bytes]:
    try:
        async for line in lines:
            yield go_json(line) + b"\n"
    except PullError as error:
        raise ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from None


async def _last(lines: AsyncIterator[Progress]) -> Progress:
    try:
        return [line async for line in lines][-1]
    except PullError as error:
        raise ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from None


def _error_line(error: ApiError) -> bytes:
    return go_json({"error": error.message}) + b"\n"


def _valid(name: str) -> ModelName:
    parsed = parse_name(name)
    if not parsed.is_valid:
        raise ApiError(HTTPStatus.BAD_REQUEST, "invalid model name")
    return parsed


def _expiry(loaded: Loaded) -> float:
    if loaded.keep_alive == FOREVER:
        return time.time() + _LONGEST_SECONDS
    return loaded.expires_at or time.time() + loaded.keep_alive


def _running(loaded: Loaded) -> dict[str, Any]:
    manifest = loaded.model.manifest
    return {
        "name": manifest.name.shortest,
        "model": manifest.name.shortest,
        "size": loaded.size,
        "digest": manifest.digest,
        "details": loaded.model.details,
        "expires_at": rfc3339(int(_expiry(loaded) * 1e9)),
        "size_vram": loaded.size_vram,
        "context_length": loaded.options.num_ctx,
    }


def _shown(model: Model) -> dict[str, Any]:
    header = model.header
    family = header.family
    optional = {"license": model.license, "system": model.system}
    return {
        **{key: value for key, value in optional.items() if value},
        "modelfile": _modelfile(model),
        "parameters": "\n".join(f"{key:<30} {value}" for key, value in _parameters(model)),
        "template": model.template,
        "details": model.details,
        "model_info": {
            "general.architecture": family,
            "general.parameter_count": header.parameters,
            f"{family}.context_length": header.context_length,
            f"{family}.embedding_length": header.embedding_length,
        },
        "tensors": [],
        "capabilities": list(header.capabilities),
        "modified_at": rfc3339(model.manifest.modified_ns),
    }


def _modelfile(model: Model) -> str:
    lines = [
        '# Modelfile generated by "ollama show" (simulated)',
        f"FROM {model.name.shortest}",
        f"TEMPLATE {quoted(model.template)}",
        *(f"PARAMETER {key} {value}" for key, value in _parameters(model)),
    ]
    return "\n".join(lines) + "\n"


def _parameters(model: Model) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in model.params.items():
        values = value if isinstance(value, list) else [value]
        found += [(key, quoted(item) if isinstance(item, str) else str(item)) for item in values]
    return found
