"""A web server on loopback for the scripts that run on hosts, and what goes wrong with it."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Site:
    """What is served.

    `cut` breaks off GETs of a path, each after so many bytes. `post` makes the chunks of the
    answer to a POST. `requests` are method, path, and the range or the body that was sent.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    cut: dict[str, list[int]] = field(default_factory=dict)
    post: Callable[[bytes], Iterator[bytes]] | None = None
    can_resume: bool = True
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""


class _Server(ThreadingHTTPServer):
    site: Site

    def handle_error(self, *arguments: Any) -> None:
        """Say nothing: clients of these tests hang up in the middle."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_POST(self) -> None:
        site = self.server.site
        body = self.rfile.read(int(self.headers["Content-Length"]))
        site.requests.append(("POST", self.path, body.decode()))
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        assert site.post is not None
        for chunk in site.post(body):
            self.wfile.write(chunk)
            self.wfile.flush()

    def _answer(self, *, with_body: bool) -> None:
        site = self.server.site
        asked = self.headers.get("Range")
        site.requests.append((self.command, self.path, asked))
        if self.path in site.redirects:
            self._head(302, 0, Location=site.redirects[self.path])
        elif self.path not in site.files:
            self._head(404, 0)
        elif asked and site.can_resume:
            self._send_rest(site.files[self.path], int(asked.strip("bytes=-")))
        else:
            content = site.files[self.path]
            self._head(200, len(content))
            if with_body:
                self._send(content)

    def _send_rest(self, content: bytes, start: int) -> None:
        total = len(content)
        if start >= total:
            self._head(416, 0)
            return
        self._head(206, total - start, Content_Range=f"bytes {start}-{total - 1}/{total}")
        self._send(content[start:])

    def _send(self, content: bytes) -> None:
        cuts = self.server.site.cut.get(self.path)
        if cuts:
            content = content[: cuts.pop(0)]
            self.close_connection = True
        self.wfile.write(content)

    def _head(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.site = site
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
