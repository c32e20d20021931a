"""The gateway is tested as the process that it is, over simulated nodes on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest
from gateway_process import Gateway, eventually
from simulated_node import SimulatedNode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class MakeNodes(Protocol):
    def __call__(self, *stores: list[str], time_scale: float = 0.0) -> list[SimulatedNode]: ...


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def running_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway"))
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def gateway(running_gateway: Gateway) -> Iterator[Gateway]:
    """The one gateway of the run; after each test every slot must be free again."""
    yield running_gateway
    eventually(lambda: not any(running_gateway.busy().values()), "every slot is free again")


@pytest.fixture
def make_nodes(tmp_path: Path) -> Iterator[MakeNodes]:
    """Start simulated nodes, one for each list of models; each has an address of its own."""
    started: list[SimulatedNode] = []

    def make(*stores: list[str], time_scale: float = 0.0) -> list[SimulatedNode]:
        first = len(started)
        for models in stores:
            node = SimulatedNode(tmp_path / f"node-{len(started)}", models, time_scale)
            started.append(node)
            node.launch()
        for node in started[first:]:
            node.wait()
        return started[first:]

    yield make
    for node in started:
        node.stop()
