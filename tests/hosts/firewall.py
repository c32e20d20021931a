"""The firewall's rules in the form that the kernel gives them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testinfra.host import Host

__all__ = ["declared_rules", "live_rules"]

_LIST = "nft -j list table inet jarvis"


def live_rules(host: Host) -> list[Any]:
    """Return the rules in force."""
    return _rules(host.check_output(_LIST))


def declared_rules(host: Host) -> list[Any]:
    """Return what the file of rules would make, tried in a network namespace of its own."""
    script = f"nft -f /etc/jarvis/firewall.nft && {_LIST}"
    return _rules(host.check_output("unshare --net sh -c %s", script))


def _rules(listing: str) -> list[Any]:
    items: list[dict[str, Any]] = json.loads(listing)["nftables"]
    return [_without_volatile(item) for item in items if "metainfo" not in item]


def _without_volatile(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_volatile(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _without_volatile(item)
        for key, item in value.items()
        if key not in {"handle", "packets", "bytes"}
    }
