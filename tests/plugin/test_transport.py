"""The connections to the nodes."""

from __future__ import annotations

import socket

import aiohttp
import anyio
import pytest
from simulated_node import new_address

from litellm_plugins.transport import node_session

pytestmark = pytest.mark.anyio


async def test_a_node_without_power_is_given_up_on_long_before_a_slow_answer() -> None:
    address = new_address()
    with socket.socket() as silent, socket.socket() as first, socket.socket() as second:
        silent.bind((address, 0))
        silent.listen(0)
        # Linux answers no more handshakes once the queue of a listener is full.
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(silent.getsockname())
        timeout = aiohttp.ClientTimeout(sock_read=3600, connect=3600)
        async with node_session(lambda: 0.2) as session:
            with anyio.fail_after(60), pytest.raises(aiohttp.ConnectionTimeoutError):
                await session.get(f"http://{address}:{silent.getsockname()[1]}", timeout=timeout)
