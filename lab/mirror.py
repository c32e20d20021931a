"""The server behind the simulated internet: releases of Ollama, a registry of models, and faults.

    python -m lab.mirror CONFIG.json

It answers by the host name that is asked for, as github.com, its store of assets, ollama.com, the
registry and its store of blobs do, redirects included. What goes wrong on the way is in a file that
is read again whenever it changes.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from fnmatch import fnmatch
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from pydantic import BaseModel, ConfigDict, TypeAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Host, Route, Router

from lab.system import replace_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Config", "Fault", "Listener", "application"]

GITHUB = "github.com"
ASSETS = "release-assets.githubusercontent.com"
OLLAMA = "ollama.com"
REGISTRY = "registry.ollama.ai"
BLOBS = "jarvis-lab.r2.cloudflarestorage.com"

NAMES = (GITHUB, ASSETS, "objects.githubusercontent.com", OLLAMA, REGISTRY, BLOBS)
"""Names of the internet that are always answered for."""

_RELEASES = "/ollama/ollama/releases/download"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
_PIECES_PER_SECOND = 10


class Fault(BaseModel):
    """Something that goes wrong with requests whose host and path match these patterns.

    With a `status`, that is the answer. `bytes_per_second` slows the answer's body down,
    `cut_after_bytes` breaks it off, `corrupt` changes its first byte. Of several that match, the
    first counts. With `times`, it stops after so many requests.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "*"
    path: str = "*"
    status: int | None = None
    bytes_per_second: int | None = None
    cut_after_bytes: int | None = None
    corrupt: bool = False
    times: int | None = None

    def concerns(self, host: str, path: str) -> bool:
        """Whether a request is to suffer it."""
        return fnmatch(host, self.host) and fnmatch(path, self.path)


class Listener(BaseModel):
    """Where to listen."""

    model_config = ConfigDict(frozen=True)

    port: int
    tls: bool


class Config(BaseModel):
    """What to serve and where.

    `releases` holds a directory `v<version>` per release, `store` is laid out as OLLAMA_MODELS.
    `release_hosts` and `registry_hosts` are further names for the same.
    """

    model_config = ConfigDict(frozen=True)

    address: str
    listeners: tuple[Listener, ...]
    certificate: Path
    key: Path
    releases: Path
    store: Path
    release_hosts: tuple[str, ...] = ()
    registry_hosts: tuple[str, ...] = ()
    faults: Path
    log: Path
    ready: Path


class _Releases:
    """GitHub's way of handing out a release: a redirect to another host, then the file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def redirect(self, request: Request) -> Response:
        asset = self._find(request)
        if asset is None:
            return Response("Not Found", status_code=404)
        tag, name = asset.parent.name, asset.name
        return RedirectResponse(f"https://{ASSETS}/simulated/{tag}/{name}?sp=r", 302)

    async def download(self, request: Request) -> Response:
        asset = self._find(request)
        if asset is None:
            return Response("Not Found", status_code=404)
        return FileResponse(asset, media_type="application/octet-stream")

    async def newest(self, request: Request) -> Response:
        """Answer as ollama.com/download does: with the place of the asset at GitHub."""
        version = request.query_params.get("version", "")
        tag = f"v{version}" if version else max(path.name for path in self._directory.iterdir())
        return RedirectResponse(
            f"https://{GITHUB}{_RELEASES}/{tag}/{request.path_params['asset']}", 307
        )

    def _find(self, request: Request) -> Path | None:
        tag, asset = request.path_params["tag"], request.path_params["asset"]
        return _file(self._directory, tag, asset)


class _Registry:
    """The registry of models: manifests, and blobs by a redirect to another host."""

    def __init__(self, store: Path) -> None:
        self._store = store

    async def manifest(self, request: Request) -> Response:
        parts = request.path_params
        host = request.url.hostname or ""
        root = self._store / "manifests"
        directory = root / (host if (root / host).is_dir() else REGISTRY)
        file = _file(directory, parts["namespace"], parts["model"], parts["tag"])
        if file is None:
            return _unknown("MANIFEST_UNKNOWN", "manifest unknown")
        return FileResponse(file, media_type=_MANIFEST)

    async def blob(self, request: Request) -> Response:
        file = self._blob(request)
        if file is None:
            return _unknown("BLOB_UNKNOWN", "blob unknown to registry")
        if request.method == "HEAD":
            return FileResponse(file, media_type="application/octet-stream")
        digest = request.path_params["digest"]
        return RedirectResponse(f"https://{BLOBS}/blobs/{digest}?X-Amz-Expires=86400", 307)

    async def download(self, request: Request) -> Response:
        file = self._blob(request)
        if file is None:
            return Response("Not Found", status_code=404)
        return FileResponse(file, media_type="application/octet-stream")

    def _blob(self, request: Request) -> Path | None:
        found = _DIGEST.fullmatch(request.path_params["digest"])
        return _file(self._store, "blobs", f"sha256-{found[1]}") if found else None


def _file(directory: Path, *segments: str) -> Path | None:
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        return None
    path = directory.joinpath(*segments)
    return path if path.is_file() else None


def _unknown(code: str, message: str) -> Response:
    return JSONResponse({"errors": [{"code": code, "message": message}]}, status_code=404)


def application(config: Config) -> ASGIApp:
    """Return the application, faults and log included."""
    releases = _Releases(config.releases)
    registry = _Registry(config.store)
    github = [Route(f"{_RELEASES}/{{tag}}/{{asset}}", releases.redirect)]
    files = [Route("/{prefix:path}/{tag}/{asset}", releases.download)]
    models = [
        Route("/v2/{namespace}/{model}/manifests/{tag}", registry.manifest),
        Route("/v2/{namespace}/{model}/blobs/{digest}", registry.blob),
    ]
    routes = {
        GITHUB: github,
        ASSETS: files,
        "objects.githubusercontent.com": files,
        OLLAMA: [Route("/download/{asset}", releases.newest)],
        REGISTRY: models,
        BLOBS: [Route("/blobs/{digest}", registry.download)],
    }
    for host in config.release_hosts:
        routes.setdefault(host, files)
    for host in config.registry_hosts:
        routes.setdefault(host, models)
    hosts = [Host(host, Router(paths)) for host, paths in routes.items()]
    return _Faulty(Starlette(routes=hosts), config.faults, config.log)


class _CutError(Exception):
    """The answer ends here, as it was asked for."""


class _Exchange:
    """One request on its way: what becomes of its answer, and what is written down of it."""

    def __init__(self, entry: dict[str, Any], fault: Fault | None, log: Path, send: Send) -> None:
        self._entry = entry
        self._fault = fault or Fault()
        self._log = log
        self._send = send
        self._sent = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._write({**self._entry, "status": message["status"]})
        if message["type"] != "http.response.body" or not message.get("body"):
            await self._send(message)
            return
        body = message["body"]
        if self._fault.corrupt and not self._sent:
            body = bytes([body[0] ^ 0xFF]) + body[1:]
        for piece in self._pieces(body):
            await self._deliver(piece)
        await self._send({**message, "body": b""})

    def finish(self) -> None:
        self._write({"number": self._entry["number"], "sent": self._sent})

    def _pieces(self, body: bytes) -> Iterator[bytes]:
        rate = self._fault.bytes_per_second
        size = max(rate // _PIECES_PER_SECOND, 1) if rate else len(body)
        for start in range(0, len(body), size):
            yield body[start : start + size]

    async def _deliver(self, piece: bytes) -> None:
        limit = self._fault.cut_after_bytes
        allowed = piece if limit is None else piece[: limit - self._sent]
        await self._send({"type": "http.response.body", "body": allowed, "more_body": True})
        self._sent += len(allowed)
        if allowed != piece:
            raise _CutError
        if self._fault.bytes_per_second:
            await asyncio.sleep(len(piece) / self._fault.bytes_per_second)

    def _write(self, entry: dict[str, Any]) -> None:
        with self._log.open("a") as log:
            log.write(json.dumps(entry) + "\n")


class _Faulty:
    """Puts faults between the application and its clients, and writes down every request."""

    def __init__(self, app: ASGIApp, faults: Path, log: Path) -> None:
        self._app = app
        self._path = faults
        self._log = log
        self._stamp: tuple[int, int] | None = None
        self._faults: list[Fault] = []
        self._suffered: list[int] = []
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        fault = self._choose(request.url.hostname or "", request.url.path)
        exchange = _Exchange(self._entry(request), fault, self._log, send)
        app = self._app
        if fault and fault.status:
            app = Response("simulated fault", status_code=fault.status)
        try:
            await app(scope, receive, exchange.send)
        finally:
            exchange.finish()

    def _choose(self, host: str, path: str) -> Fault | None:
        self._read()
        for number, fault in enumerate(self._faults):
            is_over = fault.times is not None and self._suffered[number] >= fault.times
            if fault.concerns(host, path) and not is_over:
                self._suffered[number] += 1
                return fault
        return None

    def _read(self) -> None:
        status = self._path.stat()
        stamp = (status.st_ino, status.st_mtime_ns)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self._faults = TypeAdapter(list[Fault]).validate_json(self._path.read_bytes())
        self._suffered = [0] * len(self._faults)

    def _entry(self, request: Request) -> dict[str, Any]:
        return {
            "number": next(self._numbers),
            "client": request.client.host if request.client else "",
            "method": request.method,
            "host": request.url.hostname or "",
            "path": request.url.path,
            "range": request.headers.get("range"),
        }


async def serve(config: Config) -> None:
    """Serve until the process is ended; the file `ready` appears when connections are accepted."""
    app = application(config)
    servers = [_server(app, config, listener) for listener in config.listeners]
    running = [asyncio.create_task(server.serve()) for server in servers]
    while not all(server.started for server in servers):
        await asyncio.sleep(0.02)
        for task in running:
            if task.done():
                task.result()
    replace_text(config.ready, "")
    await asyncio.gather(*running)


def _server(app: ASGIApp, config: Config, listener: Listener) -> uvicorn.Server:
    encryption: dict[str, Any] = {
        "ssl_certfile": str(config.certificate),
        "ssl_keyfile": str(config.key),
    }
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=config.address,
            port=listener.port,
            log_level="warning",
            lifespan="off",
            **(encryption if listener.tls else {}),
        )
    )


if __name__ == "__main__":
    asyncio.run(serve(Config.model_validate_json(Path(sys.argv[1]).read_bytes())))
