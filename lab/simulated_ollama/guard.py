"""Who may ask: Ollama's checks of the Host and Origin headers."""

from __future__ import annotations

import ipaddress
import socket
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["GuardMiddleware"]

_LOCAL_DOMAINS = (".localhost", ".local", ".internal")
_ALLOWED_HEADERS = "Authorization,Content-Type,User-Agent,Accept,X-Requested-With"
_ALLOWED_METHODS = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
_PREFLIGHT_SECONDS = "43200"


class GuardMiddleware:
    """Answers 403 to foreign origins, and on loopback to foreign host names."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...], *, check_host: bool) -> None:
        self._app = app
        self._origins = origins
        self._check_host = check_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = _foreign_origin(headers)
        if origin and not any(fnmatchcase(origin, allowed) for allowed in self._origins):
            await Response(status_code=403)(scope, receive, send)
            return
        if origin and scope["method"] == "OPTIONS":
            await _preflight(origin)(scope, receive, send)
            return
        if self._check_host and not _is_local(headers.get("host", "")):
            await Response(status_code=403)(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer["access-control-allow-origin"] = origin
                answer.add_vary_header("Origin")
            await send(message)

        await self._app(scope, receive, marked if origin else send)


def _foreign_origin(headers: Headers) -> str:
    origin = headers.get("origin", "")
    host = headers.get("host", "")
    return "" if origin in {f"http://{host}", f"https://{host}"} else origin


def _preflight(origin: str) -> Response:
    return Response(
        status_code=204,
        headers={
            "access-control-allow-origin": origin,
            "access-control-allow-methods": _ALLOWED_METHODS,
            "access-control-allow-headers": _ALLOWED_HEADERS,
            "access-control-max-age": _PREFLIGHT_SECONDS,
            "vary": "Origin",
        },
    )


def _is_local(authority: str) -> bool:
    host = (urlsplit(f"//{authority}").hostname or "").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        names = {"", "localhost", socket.gethostname().lower()}
        return host in names or host.endswith(_LOCAL_DOMAINS)
    return address.is_loopback or address.is_private or address.is_unspecified
