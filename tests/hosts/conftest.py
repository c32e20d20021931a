"""Checks of a deployed fleet, the lab's or your own. They change nothing on it.

`make verify` runs them. Environment: JARVIS_INVENTORY (default `inventory.py`), JARVIS_SSH_CONFIG,
JARVIS_SUDO_PASSWORD and JARVIS_FLEET_OVERLAY as for a deploy; JARVIS_KEY, a key of the endpoint;
JARVIS_CA_FILE, where the endpoint's certificate authority is not in `.jarvis/ca.crt`.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest
from endpoint import authority, chat_models_of
from machines import Machine, declared_fleet, gateway_machine, machines, usable

from litellm_plugins.schema import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from testinfra.host import Host

    from litellm_plugins.schema import Fleet, Node

_COLD_LOAD_SECONDS = 600
"""A large model has to be read from disk before it answers."""


def pytest_sessionstart() -> None:
    """End with one sentence, before anything is collected, if the inventory cannot be read."""
    declared_fleet()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test for the machines that its arguments ask for, by the arguments' names."""
    asked = set(metafunc.fixturenames)
    if "outsider" in asked:
        outsiders = [item for item in machines() if Role.GATEWAY not in item.node.roles]
        _parametrize(metafunc, "outsider", outsiders)
    if "machine" not in asked:
        return
    of_role = machines(metafunc.module.ROLE)
    models = next((name for name in _MODELS if name in asked), None)
    if models is None:
        _parametrize(metafunc, "machine", of_role)
        return
    pairs = [(machine, model) for machine in of_role for model in _MODELS[models](machine.name)]
    ids = [f"{machine.name}-{model}" for machine, model in pairs]
    metafunc.parametrize(("machine", models), pairs, ids=ids)


def _parametrize(metafunc: pytest.Metafunc, name: str, values: Sequence[Machine]) -> None:
    metafunc.parametrize(name, values, ids=[machine.name for machine in values])


_MODELS: dict[str, Callable[[str], Sequence[str]]] = {
    "declared_model": lambda node: declared_fleet().models_of(node),
    "chat_model": lambda node: chat_models_of(node)[:1],
}
"""The models of a node that a test is run for, by the argument's name."""


@pytest.fixture
def host(machine: Machine) -> Host:
    return usable(machine)


@pytest.fixture
def node(machine: Machine) -> Node:
    return machine.node


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    return declared_fleet()


@pytest.fixture(scope="session")
def gateway_host() -> Host:
    return usable(gateway_machine())


@pytest.fixture
def trust() -> ssl.SSLContext:
    """Trust in the endpoint's authority, and in no other where it is the gateway's own."""
    return ssl.create_default_context(cafile=authority())


@pytest.fixture
def stranger(trust: ssl.SSLContext, fleet: Fleet) -> Iterator[httpx.Client]:
    """A client of the endpoint without a key; it connects by address and asks for the host name."""
    _, gateway = fleet.gateway_node
    with httpx.Client(
        base_url=f"https://{gateway.address}:{fleet.gateway.port}",
        headers={"Host": fleet.gateway.hostname},
        verify=trust,
        timeout=httpx.Timeout(_COLD_LOAD_SECONDS, connect=5),
        trust_env=False,
    ) as client:
        client.event_hooks["request"].append(
            lambda request: request.extensions.update(sni_hostname=fleet.gateway.hostname)
        )
        yield client


@pytest.fixture
def client(stranger: httpx.Client) -> httpx.Client:
    """A client of the endpoint with the key of JARVIS_KEY."""
    key = os.environ.get("JARVIS_KEY")
    if not key:
        pytest.fail(
            "JARVIS_KEY is not set: the endpoint is asked with a key; `make key NAME=verify` makes one",
            pytrace=False,
        )
    stranger.headers["Authorization"] = f"Bearer {key}"
    return stranger
