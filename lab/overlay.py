"""What the lab changes in a user's inventory, as an overlay: the inventory itself stays as it is."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import yaml

from lab.system import LabError, replace_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from litellm_plugins.schema import Fleet, Node

__all__ = ["KEY_NAME", "Overlay", "address_of", "combine", "for_lab", "read", "write"]

Overlay = dict[str, Any]

KEY_NAME = "lab"
"""Name of the key that the lab's own requests use."""

_INSTEAD_OF_LOOPBACK = IPv4Address("192.168.77.0")


def address_of(node: Node) -> IPv4Address:
    """Return a node's address in the lab: the declared one, unless that is a machine's own loopback."""
    if not node.address.is_loopback:
        return node.address
    return _INSTEAD_OF_LOOPBACK + node.address.packed[-1]


def for_lab(fleet: Fleet, *, version: str, sha256: Mapping[str, str], key_sha256: str) -> Overlay:
    """Return the overlay that lets a fleet's inventory run on the lab's hosts.

    It names the release that the lab serves, by the archives' checksums, and a key. It takes out
    what points away from the lab: other names for SSH, deploys onto this very machine, certificates
    of the real world and digests of the real registry.
    """
    overlay: Overlay = {
        "ollama": {
            "version": version,
            "sha256": {**dict.fromkeys(fleet.ollama.sha256), **sha256},
        },
        "nodes": {name: _node(node) for name, node in fleet.nodes.items()},
        "models": {name: {"digest": None} for name, model in fleet.models.items() if model.digest},
        "keys": {KEY_NAME: {"sha256": key_sha256}},
    }
    if fleet.gateway.tls.mode != "internal":
        nothing = dict.fromkeys(("certificate", "key", "email"))
        overlay["gateway"] = {"tls": {"mode": "internal", **nothing}}
    return overlay


def _node(node: Node) -> Overlay:
    changes: Overlay = {}
    if node.ssh_host:
        changes["ssh_host"] = None
    if node.connection == "local":
        changes["connection"] = None
    if address_of(node) != node.address:
        changes["address"] = str(address_of(node))
    return changes


def combine(first: Overlay, second: Overlay) -> Overlay:
    """Return the overlay that does what two do one after the other; a null in it still removes."""
    combined = dict(first)
    for key, value in second.items():
        before = combined.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            combined[key] = combine(before, value)
        else:
            combined[key] = value
    return combined


def read(path: Path) -> Overlay:
    """Read an overlay.

    Raises:
        LabError: where it is not there or is no YAML mapping.

    """
    try:
        overlay = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise LabError(f"cannot read the overlay {path}: {error}") from None
    if not isinstance(overlay, dict):
        raise LabError(f"the overlay {path} must hold a mapping, like the fleet itself")
    return overlay


def write(path: Path, overlay: Overlay) -> None:
    """Write an overlay."""
    replace_text(path, yaml.safe_dump(overlay, sort_keys=False), mode=0o600)
