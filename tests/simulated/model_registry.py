"""A registry of models on loopback, with TLS of its own, that can be told to misbehave."""

from __future__ import annotations

import ssl
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_SECONDS = 30


class Registry:
    """Serves a store. Blobs are behind a redirect to another host name, as in the real one.

    `requests` are method, path and range of what was asked for. `hold` keeps each answer with a
    part of a blob back after its first half until it is set. `swap` answers with other bytes of the
    same length, `located` is False for a registry that answers with the blob where a redirect is
    expected, `status` is what manifests are answered with.
    """

    def __init__(self, store: Path, scheme: str) -> None:
        self.store = store
        self.scheme = scheme
        self.requests: list[tuple[str, str, str]] = []
        self.agents: set[str] = set()
        self.hold = threading.Event()
        self.hold.set()
        self.swap = False
        self.located = True
        self.status = 200
        self.port = 0

    @property
    def name(self) -> str:
        """What stands before the namespace in the name of a model."""
        return f"127.0.0.1:{self.port}"

    def ranges(self) -> list[str]:
        return [wanted for _, path, wanted in self.requests if path.startswith("/direct/")]

    def asked(self, method: str, part: str) -> bool:
        return any(verb == method and part in path for verb, path, _ in self.requests)

    def manifest(self, namespace: str, model: str, tag: str) -> Path:
        return self.store / "manifests" / "registry.ollama.ai" / namespace / model / tag


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Registry

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *arguments: object) -> None:
        """Stay silent."""

    def _answer(self) -> None:
        self.registry.requests.append((self.command, self.path, self.headers.get("range", "")))
        self.registry.agents.add(self.headers.get("user-agent", ""))
        parts = self.path.strip("/").split("/")
        if parts[0] == "direct":
            self._part(parts[1])
        elif parts[3] == "manifests":
            self._manifest(*parts[1:3], parts[4])
        else:
            self._blob(parts[4])

    def _manifest(self, namespace: str, model: str, tag: str) -> None:
        path = self.registry.manifest(namespace, model, tag)
        if self.registry.status != 200:
            self._send(self.registry.status, b"simulated trouble")
        elif path.exists():
            self._send(200, path.read_bytes())
        else:
            self._send(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')

    def _blob(self, digest: str) -> None:
        path = self.registry.store / "blobs" / digest.replace(":", "-")
        if self.command == "HEAD" or not self.registry.located:
            self._send(200, path.read_bytes())
            return
        target = f"{self.registry.scheme}://localhost:{self.registry.port}/direct/{digest}"
        self._send(307, b"", location=target)

    def _part(self, digest: str) -> None:
        content = (self.registry.store / "blobs" / digest.replace(":", "-")).read_bytes()
        first, last = self.headers["range"].removeprefix("bytes=").split("-")
        part = content[int(first) : int(last) + 1]
        if self.registry.swap:
            part = bytes(len(part))
        self.send_response(206)
        self.send_header("content-length", str(len(part)))
        self.end_headers()
        half = len(part) // 2
        try:
            self.wfile.write(part[:half])
            self.wfile.flush()
            self.registry.hold.wait(PATIENCE_SECONDS)
            self.wfile.write(part[half:])
        except OSError:
            self.close_connection = True

    def _send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments: object) -> None:
        """Clients that leave are a part of the tests."""


@contextmanager
def running_registry(store: Path, certificate: Path | None) -> Iterator[Registry]:
    """Run a registry; with a certificate it speaks TLS."""
    registry = Registry(store, "https" if certificate else "http")
    server = _Quiet(("127.0.0.1", 0), type("Bound", (_Handler,), {"registry": registry}))
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    registry.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield registry
    finally:
        registry.hold.set()
        server.shutdown()
        server.server_close()


def make_certificate(path: Path) -> Path:
    """Make a certificate and its key, in one file, for the names of loopback."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "30", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(path), "-out", str(path.with_suffix(".crt"))),
        ],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path
