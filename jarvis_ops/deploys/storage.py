"""Storage nodes: a place for the fleet's model weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyinfra.api import deploy

from jarvis_ops.data import current_node
from jarvis_ops.operations import accounts, managed
from jarvis_ops.operations.managed import ManagedDirectory

if TYPE_CHECKING:
    from jarvis_ops.facts.snapshot import Question
    from litellm_plugins.schema import Fleet, Node

__all__ = ["questions", "storage"]

_USER = "jarvis-store"


def questions(fleet: Fleet, name: str) -> list[Question[Any]]:
    """Return what `storage` is going to ask of a node."""
    return [accounts.account(_USER), managed.directory_states(_directories(fleet.nodes[name]))]


def _directories(node: Node) -> tuple[ManagedDirectory, ...]:
    return (ManagedDirectory(node.storage.path, mode="750", user=_USER, group=_USER),)


@deploy("Storage")
def storage() -> None:
    """Prepare the directory; who may reach its port is in the firewall of `common`."""
    _, node = current_node()

    accounts.system_user(name="The store's user exists", user=_USER, home=node.storage.path)
    managed.directories(name="The directory of the store is there", wanted=_directories(node))
