"""The only reader of `host.data`: the validated model of the fleet and of the current host."""

from __future__ import annotations

from pyinfra.context import host

from litellm_plugins.schema import Fleet, Node

__all__ = ["current_fleet", "current_node"]


def current_fleet() -> Fleet:
    """Return the fleet that the inventory declares."""
    return Fleet.model_validate(host.data.fleet)


def current_node() -> tuple[str, Node]:
    """Return the name and the node of the host that is being deployed."""
    name: str = host.data.node_name
    return name, current_fleet().nodes[name]
