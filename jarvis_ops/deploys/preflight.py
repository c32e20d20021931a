"""Whether a host can become what the inventory declares, asked before anything is changed.

Each condition that does not hold fails this host with a sentence, and the others go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyinfra import logger
from pyinfra.context import ctx_host, ctx_state

from jarvis_ops import connection, report
from jarvis_ops.data import current_fleet, current_node
from jarvis_ops.deploys import common, gateway, inference, storage
from jarvis_ops.facts.machine import Listener, Listeners, Machine, machine
from jarvis_ops.facts.snapshot import NotGatheredError, Question, ask, gather, question
from litellm_plugins.schema import Fleet, Node, Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyinfra.api.host import Host

__all__ = ["is_ready"]

_SYSTEMS = {"debian": ("12", "13"), "ubuntu": ("22.04", "24.04")}
_ARCHITECTURES = ("amd64", "arm64")


def is_ready() -> bool:
    """Ask the host all that its roles are going to ask, and return whether they can go on."""
    state, host = ctx_state.get(), ctx_host.get()
    report.watch(state)
    connection.notice_silence(host)
    fleet = current_fleet()
    name, node = current_node()
    try:
        gather(host, _questions(fleet, name))
    except NotGatheredError as error:
        report.fail(state, host, f"{error}; nothing was changed")
        return False
    problems = [
        *_machine_problems(ask(host, machine()), name, node),
        *_port_problems(host, fleet, name),
    ]
    if not problems and Role.INFERENCE in node.roles:
        problems += inference.problems(fleet, name)
    if not problems and Role.GATEWAY in node.roles:
        problems += gateway.problems(fleet)
    if problems:
        report.fail(state, host, "; ".join([*problems, "nothing was changed"]))
        return False
    if Role.INFERENCE in node.roles:
        for doubt in inference.doubts(fleet, name):
            logger.warning(f"{host.print_prefix}{doubt}")
    return True


def _questions(fleet: Fleet, name: str) -> list[Question[Any]]:
    node = fleet.nodes[name]
    return [
        machine(),
        _listeners(_ports(fleet, node)),
        *common.questions(fleet, name),
        *(inference.questions(fleet, name) if Role.INFERENCE in node.roles else ()),
        *(storage.questions(fleet, name) if Role.STORAGE in node.roles else ()),
        *(gateway.questions(fleet) if Role.GATEWAY in node.roles else ()),
    ]


def _machine_problems(found: Machine, name: str, node: Node) -> Iterator[str]:
    if found.version not in _SYSTEMS.get(found.os, ()):
        yield (
            f"the operating system is {found.name}, and supported are Debian 12 and 13 and "
            "Ubuntu 22.04 and 24.04"
        )
    if found.architecture not in _ARCHITECTURES:
        yield f"the architecture is {found.architecture}, and supported are amd64 and arm64"
    if not found.has_systemd:
        yield "systemd does not run here, and the services need it"
    if found.addresses and str(node.address) not in found.addresses:
        yield (
            f"nodes.{name}.address is {node.address}, which this machine does not have "
            f"(it has {', '.join(found.addresses)})"
        )


def _ports(fleet: Fleet, node: Node) -> dict[int, str]:
    """Return the ports of a node's roles and the units that may hold them."""
    ports: dict[int, str] = {}
    if Role.INFERENCE in node.roles:
        ports |= inference.PORTS
    if Role.GATEWAY in node.roles:
        ports |= gateway.ports(fleet)
    return ports


def _listeners(ports: dict[int, str]) -> Question[tuple[Listener, ...]]:
    return question(Listeners, ports=tuple(sorted(ports)))


def _port_problems(host: Host, fleet: Fleet, name: str) -> Iterator[str]:
    ports = _ports(fleet, fleet.nodes[name])
    for listener in ask(host, _listeners(ports)):
        if listener.unit != ports[listener.port]:
            yield (
                f"port {listener.port} is held by {listener.process!r} (pid {listener.pid}), and "
                f"{ports[listener.port]} needs it; stop that process first"
            )
