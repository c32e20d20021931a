"""From the fleet as plain data to pyinfra's groups of hosts, validated before anything connects."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml
from pyinfra.api.exceptions import InventoryError

from jarvis_ops import report
from litellm_plugins.names import nearest
from litellm_plugins.schema import Fleet, FleetError, Role, load_fleet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["OVERLAY_VARIABLE", "groups_of"]

OVERLAY_VARIABLE = "JARVIS_FLEET_OVERLAY"
"""Names a YAML file that is merged over the inventory: what should not be in version control."""

Hosts = list[tuple[str, dict[str, Any]]]


def groups_of(data: Mapping[str, Any]) -> dict[str, Hosts]:
    """Return pyinfra's groups, one per role and one per declared group.

    Each host carries its node's name and the whole fleet as plain data, which pyinfra can print.

    Raises:
        InventoryError: one line per mistake, each with the path of its key.

    """
    try:
        fleet = load_fleet(_with_overlay(data))
    except FleetError as error:
        raise _invalid(error.lines) from None
    groups = _groups(fleet)
    _check_limit(groups)
    report.install()
    return groups


def _groups(fleet: Fleet) -> dict[str, Hosts]:
    plain = fleet.model_dump(mode="json")
    hosts = {name: _host(name, fleet, plain) for name in fleet.nodes}
    roles = {role.value: [hosts[name] for name in fleet.nodes_with(role)] for role in Role}
    declared = {name: [hosts[node] for node in group.nodes] for name, group in fleet.groups.items()}
    return {name: members for name, members in {**roles, **declared}.items() if members}


def _host(name: str, fleet: Fleet, plain: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    node = fleet.nodes[name]
    data: dict[str, Any] = {"node_name": name, "fleet": plain}
    if node.connection == "local":
        return "@local", {**data, "_sudo": os.geteuid() != 0}
    return name, {**data, "ssh_hostname": node.ssh_host or str(node.address)}


def _with_overlay(data: Mapping[str, Any]) -> Mapping[str, Any]:
    path = os.environ.get(OVERLAY_VARIABLE)
    if not path:
        return data
    try:
        overlay = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise _invalid([f"{OVERLAY_VARIABLE}: cannot read {path}: {error}"]) from None
    if not isinstance(overlay, dict):
        raise _invalid([f"{OVERLAY_VARIABLE}: {path} must hold a mapping, like the fleet itself"])
    click.echo(f"--> Fleet overlay: {path}", err=True)
    return _merge(data, overlay)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings key by key; any other value replaces, and null removes."""
    merged = dict(base)
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            below = merged.get(key)
            merged[key] = _merge(below if isinstance(below, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def _check_limit(groups: dict[str, Hosts]) -> None:
    """Refuse a `--limit` that matches nothing, which pyinfra would end with exit status 0."""
    context = click.get_current_context(silent=True)
    patterns = (context.params.get("limit") or ()) if context else ()
    lines = list(_unmatched(patterns, groups))
    if lines:
        raise InventoryError("\n  ".join(["nothing was changed:", *lines]))


def _unmatched(patterns: tuple[str, ...], groups: dict[str, Hosts]) -> Iterator[str]:
    names = {name for members in groups.values() for name, _ in members}
    known = {*groups, *names, "all"}
    for pattern in patterns:
        if pattern in known or any(fnmatch(name, pattern) for name in names):
            continue
        near = nearest(pattern, known, limit=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(names))}"
        yield f"--limit {pattern}: no host or group has this name{hint}"


def _invalid(lines: list[str]) -> InventoryError:
    return InventoryError("\n  ".join(["the fleet is not valid, nothing was changed:", *lines]))
