"""The whole application: LiteLLM's inside ours, with discovery running beside them.

Importing this module imports LiteLLM, which reads its environment then: see gateway.py.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import litellm
from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport
from litellm.proxy import proxy_server

from litellm_plugins.api import Api
from litellm_plugins.asgi import Front
from litellm_plugins.deployments import Deployments
from litellm_plugins.discovery import Discovery
from litellm_plugins.hooks import Hooks
from litellm_plugins.routing.dispatch import Dispatcher
from litellm_plugins.transport import node_session

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from litellm_plugins.fleet_file import FleetFile
    from litellm_plugins.routing.nodes import NodeStatus
    from litellm_plugins.schema import Fleet

__all__ = ["Application"]


class Application:
    """The ASGI application of one gateway process."""

    def __init__(self, fleet_file: FleetFile) -> None:
        statuses: dict[str, NodeStatus] = {}
        self._fleet_file = fleet_file
        self._dispatcher = Dispatcher(self._fleet, statuses)
        self._discovery = Discovery(
            self._fleet,
            statuses,
            on_change=self._follow_nodes,
            on_return=self._dispatcher.suspicions.clear_node,
        )
        self._deployments: Deployments | None = None
        self._following: asyncio.Task[None] | None = None
        self._front = Front(
            inference=proxy_server.app,
            ours=Api(self._fleet, self._dispatcher, self._discovery).application(),
            fleet=self._fleet,
            dispatcher=self._dispatcher,
            discovery=self._discovery,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or start and stop with the server."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await self._front(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await self._start()
            if message["type"].startswith("lifespan.shutdown"):
                await self._stop()
            await send(message)

        await proxy_server.app(scope, receive, tell)

    async def _start(self) -> None:
        """Begin once LiteLLM has made its router, and before the first request."""
        router = proxy_server.llm_router
        if router is None:
            raise RuntimeError("LiteLLM has started without a router")
        self._deployments = Deployments(router)
        litellm.logging_callback_manager.add_litellm_callback(
            Hooks(self._fleet, self._dispatcher, self._discovery.refresh)
        )
        await self._connect()
        self._discovery.follow_fleet()
        self._following = asyncio.create_task(self._fleet_file.follow(self._discovery.follow_fleet))

    async def _connect(self) -> None:
        """Put our session in place of LiteLLM's, which closes it at the end.

        Text completions go through the OpenAI SDK, which takes its client from elsewhere.
        """
        if proxy_server.shared_aiohttp_session is not None:
            await proxy_server.shared_aiohttp_session.close()
        session = node_session(lambda: self._fleet().routing.connect_timeout_seconds)
        proxy_server.shared_aiohttp_session = session
        transport = LiteLLMAiohttpTransport(client=session, owns_session=False)
        litellm.aclient_session = httpx.AsyncClient(transport=transport)

    async def _stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
        await self._discovery.close()

    def _fleet(self) -> Fleet:
        return self._fleet_file.current

    def _follow_nodes(self) -> None:
        if self._deployments is not None:
            self._deployments.follow(self._fleet(), self._discovery.statuses)
