"""The firewall of a host: one table of our own, made of what the host's roles need."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jarvis_ops.text import render
from litellm_plugins.schema import Fleet, Node, Role
from litellm_plugins.tuning import OLLAMA_PORT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "GATEWAY_PORT",
    "GATEWAY_USER",
    "RECORD_FILE",
    "RULES_FILE",
    "TABLE",
    "UNIT",
    "UNIT_FILE",
    "rules",
    "rules_sha256",
    "unit_text",
]

TABLE = "inet jarvis"
RULES_FILE = "/etc/jarvis/firewall.nft"
UNIT = "jarvis-firewall.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"

RECORD_FILE = "/run/jarvis-firewall.loaded"
"""Checksums of the rules file and of the live table, as they were when the rules were loaded."""

GATEWAY_USER = "jarvis"
GATEWAY_PORT = 4000
"""The gateway process itself, on loopback behind Caddy."""


@dataclass(frozen=True)
class _Service:
    """A port of ours and the addresses that may connect to it; the host itself always may."""

    purpose: str
    chain: str
    port: int
    sources: tuple[str, ...]


def rules(fleet: Fleet, name: str) -> str:
    """Return the rules of a node, as a file for nft."""
    node = fleet.nodes[name]
    is_gateway = Role.GATEWAY in node.roles
    inference = _addresses(
        other for other in fleet.nodes_with(Role.INFERENCE).values() if other != node
    )
    return render(
        "firewall.nft.j2",
        services=list(_services(fleet, node)),
        nodes=inference if is_gateway else None,
        gateway_user=GATEWAY_USER,
        ollama_port=OLLAMA_PORT,
    )


def rules_sha256(fleet: Fleet, name: str) -> str:
    """Return the checksum that the live firewall's record must have."""
    return hashlib.sha256(rules(fleet, name).encode()).hexdigest()


def unit_text() -> str:
    """Return the unit that loads the rules and notes what it has loaded."""
    remember = (
        f"/bin/sh -c '{{ sha256sum <{RULES_FILE}; nft -s list table {TABLE} | sha256sum; }} "
        f">{RECORD_FILE}'"
    )
    return render("jarvis-firewall.service.j2", rules=RULES_FILE, remember=remember)


def _services(fleet: Fleet, node: Node) -> Iterator[_Service]:
    if Role.INFERENCE in node.roles:
        _, gateway = fleet.gateway_node
        yield _Service(
            "Ollama has no keys of its own: only the gateway may use it.",
            "to_ollama",
            OLLAMA_PORT,
            _addresses([gateway] if gateway != node else []),
        )
    if Role.STORAGE in node.roles:
        yield _Service(
            "Model weights are for the machines of the fleet.",
            "to_storage",
            node.storage.port,
            _addresses(other for other in fleet.nodes.values() if other != node),
        )
    if Role.GATEWAY in node.roles:
        yield _Service(
            "The gateway is reached through Caddy, which is on this machine.",
            "to_gateway",
            GATEWAY_PORT,
            (),
        )


def _addresses(nodes: Iterable[Node]) -> tuple[str, ...]:
    return tuple(str(address) for address in sorted(node.address for node in nodes))
