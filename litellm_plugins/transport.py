"""The connections to the nodes.

LiteLLM knows one timeout, which is for connecting and for reading alike. A cold load may take
minutes, and a node without power must be noticed in seconds, so its connections are ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

__all__ = ["NodeConnector", "node_session"]


class NodeConnector(aiohttp.TCPConnector):
    """Connections that are made within a time of their own, or not at all."""

    def __init__(self, connect_seconds: Callable[[], float]) -> None:
        # No limit: how many requests a node gets is the dispatcher's to say.
        super().__init__(limit=0, ttl_dns_cache=None)
        self._connect_seconds = connect_seconds

    async def connect(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """Connect within our time, whatever the request allows."""
        ours = aiohttp.ClientTimeout(
            total=timeout.total,
            connect=timeout.connect,
            sock_read=timeout.sock_read,
            sock_connect=self._connect_seconds(),
        )
        return await super().connect(req, traces, ours)


def node_session(connect_seconds: Callable[[], float]) -> aiohttp.ClientSession:
    """Return a session that reaches the nodes directly: no proxy of the environment, no cookies."""
    return aiohttp.ClientSession(
        connector=NodeConnector(connect_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )
