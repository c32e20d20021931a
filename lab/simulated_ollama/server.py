"""The running service: its application, its socket, its log."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from lab.simulated_ollama.access import AccessMiddleware, Counters
from lab.simulated_ollama.compute import Compute
from lab.simulated_ollama.control_api import ControlApi
from lab.simulated_ollama.engine import Engine
from lab.simulated_ollama.errors import ApiError
from lab.simulated_ollama.faults import Connections, FaultMiddleware, Faults
from lab.simulated_ollama.guard import GuardMiddleware
from lab.simulated_ollama.hardware import Device, Hardware, choose_device
from lab.simulated_ollama.native_api import NativeApi
from lab.simulated_ollama.openai_api import OpenaiApi
from lab.simulated_ollama.registry import Puller
from lab.simulated_ollama.responses import Text, error_response
from lab.simulated_ollama.scheduler import Scheduler
from lab.simulated_ollama.settings import described_settings
from lab.simulated_ollama.store import Store
from lab.simulated_ollama.store_api import StoreApi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from lab.simulated_ollama.settings import Settings

__all__ = ["Service", "log", "serve"]

_KEEP_ALIVE_SECONDS = 24 * 3600
"""Ollama never closes an idle connection; uvicorn would after five seconds."""

_BACKLOG = 4096


class _Server(uvicorn.Server):
    """A server whose listening socket can go away for a while; a signal ends it with status 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End at SIGINT and SIGTERM as Ollama does: at once, with streams cut in the middle."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, os._exit, 0)
        yield

    def refuse(self, seconds: float) -> None:
        """Close the listening socket; open it again after so many seconds."""
        addresses = [item.getsockname() for server in self.servers for item in server.sockets]
        for server in self.servers:
            server.close()
        self.servers = []
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, lambda: loop.create_task(self._listen(addresses)))

    async def _listen(self, addresses: list[Any]) -> None:
        for address in addresses:
            listener = open_socket(address[0], address[1])
            server = await asyncio.get_running_loop().create_server(
                self._protocol, sock=listener, backlog=_BACKLOG
            )
            self.servers.append(server)

    def _protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = kind(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


class Service:
    """Everything that one server is made of."""

    def __init__(self, settings: Settings, hardware: Hardware, version: str) -> None:
        self._settings = settings
        self._version = version
        self.device = choose_device(hardware, settings, _installed_libraries())
        self.store = Store(settings.models)
        self._connections = Connections()
        compute = Compute(self.device.profile, hardware.time_scale)
        self.scheduler = Scheduler(settings, self.device, compute, log)
        self._engine = Engine(self.store, self.scheduler, _node())
        self._puller = Puller(self.store, version, prune=settings.prune)
        self._faults = Faults()
        self._server: _Server | None = None

    def application(self) -> Starlette:
        """Return the ASGI application."""
        counters = Counters()
        interfaces = (
            StoreApi(self._engine, self._puller, self._version, cloud=self._settings.cloud),
            NativeApi(self._engine),
            OpenaiApi(self._engine),
            ControlApi(self._engine, self._faults, counters, self._refuse),
        )
        return Starlette(
            routes=[route for interface in interfaces for route in interface.routes()],
            middleware=[
                Middleware(AccessMiddleware, counters=counters, log=print_line),
                Middleware(
                    GuardMiddleware,
                    origins=self._settings.origins,
                    check_host=self._settings.listens_on_loopback,
                ),
                Middleware(FaultMiddleware, faults=self._faults, connections=self._connections),
            ],
            exception_handlers={ApiError: _api_error, HTTPException: _http_error},
            lifespan=self._lifespan,
        )

    def run(self) -> None:
        """Serve until a signal ends it."""
        listener = open_socket(self._settings.host, self._settings.port)
        port = listener.getsockname()[1]
        self.store.create()
        self._announce_start()
        config = uvicorn.Config(
            self.application(),
            http=self._protocol_class(),
            ws="none",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        self._server = _Server(config)
        log(f"Listening on {self._settings.host}:{port} (version {self._version})")
        self._announce_device()
        self._server.run(sockets=[listener])

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        del app
        self.scheduler.start()
        yield

    def _refuse(self, seconds: float) -> None:
        if self._server is not None:
            self._connections.reset_idle()
            self._server.refuse(seconds)

    def _protocol_class(self) -> type[H11Protocol]:
        connections = self._connections

        class Protocol(H11Protocol):
            """Keeps account of the connections, so that one can be reset."""

            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                connections.opened(transport)
                super().connection_made(transport)

            def connection_lost(self, exc: Exception | None) -> None:
                connections.closed(self.transport)
                super().connection_lost(exc)

        return Protocol

    def _announce_start(self) -> None:
        log("server config", env=f"map[{' '.join(described_settings(os.environ))}]")
        log(f"Ollama cloud disabled: {str(not self._settings.cloud).lower()}")
        if self._settings.prune:
            log(f"total unused blobs removed: {self.store.prune()}")

    def _announce_device(self) -> None:
        device = self.device
        if device.dropped:
            log(
                "dropping integrated GPU; to enable, set OLLAMA_IGPU_ENABLE=1",
                description=device.dropped,
            )
        log("inference compute", **_compute_line(device))
        log(
            "vram-based default context",
            total_vram=_gib(device.total_bytes) if device.is_gpu else "0 B",
            default_num_ctx=self.scheduler.default_context(),
        )


def serve(settings: Settings, hardware: Hardware, version: str) -> None:
    """Run the service until a signal ends it.

    Raises:
        OSError: where the address is taken or the store cannot be written.

    """
    Service(settings, hardware, version).run()


def log(message: str, **fields: object) -> None:
    """Write a line as Go's slog does."""
    stamp = datetime.now().astimezone().isoformat(timespec="milliseconds")
    rest = "".join(f" {key}={_logged(value)}" for key, value in fields.items())
    print_line(f"time={stamp} level=INFO source=simulated msg={_logged(message)}{rest}")


def print_line(line: str) -> None:
    """Write a line to the service's output at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def open_socket(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket.

    Raises:
        OSError: where the address cannot be listened on.

    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        reason = (error.strerror or str(error)).lower()
        raise OSError(f"listen tcp {host}:{port}: bind: {reason}") from None
    opened.setblocking(False)
    return opened


async def _api_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, ApiError):
        raise error
    return error_response(request.url.path, error)


async def _http_error(request: Request, error: Exception) -> Response:
    del request
    if not isinstance(error, HTTPException):
        raise error
    texts = {404: "404 page not found", 405: "405 method not allowed"}
    text = texts.get(error.status_code, error.detail)
    return Text(text, error.status_code, headers=error.headers)


def _installed_libraries() -> frozenset[str] | None:
    """Return the directories in ../lib/ollama of the program; None where it runs from source."""
    program = Path(sys.argv[0]).resolve()
    directory = program.parent.parent / "lib" / "ollama"
    if program.parent.name != "bin" or not directory.is_dir():
        return None
    return frozenset(path.name for path in directory.iterdir() if path.is_dir())


def _node() -> str:
    return os.environ.get("SIMULATED_NODE") or socket.gethostname()


def _compute_line(device: Device) -> dict[str, object]:
    gib = _gib(device.total_bytes)
    if not device.is_gpu:
        return {
            "id": "cpu",
            "library": "cpu",
            "compute": "",
            "name": "cpu",
            "description": device.description,
            "libdirs": "ollama",
            "driver": "",
            "pci_id": "",
            "type": "",
            "total": gib,
            "available": gib,
        }
    return {
        "id": "0",
        "library": device.library,
        "compute": "simulated",
        "name": f"{device.library}0",
        "description": device.description,
        "libdirs": f"ollama,{device.library_dir}",
        "driver": "0.0",
        "pci_id": "0000:00:00.0",
        "type": device.kind,
        "total": gib,
        "available": gib,
    }


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def _logged(value: object) -> str:
    text = str(value)
    return f'"{text}"' if not text or " " in text or "=" in text else text
