"""Storage nodes are ready to keep the fleet's weights, for machines of the fleet only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firewall import declared_rules, live_rules
from machines import Machine, Reach, control_machine, machines, owns, reach, usable

from litellm_plugins.schema import Node, Role

if TYPE_CHECKING:
    from testinfra.host import Host

ROLE = Role.STORAGE


def test_the_directory_is_there_and_closed_to_others(host: Host, node: Node) -> None:
    directory = host.file(node.storage.path)
    assert directory.is_directory
    assert (directory.user, directory.group, directory.mode) == (
        "jarvis-store",
        "jarvis-store",
        0o750,
    )


def test_machines_of_the_fleet_are_let_through(node: Node, machine: Machine) -> None:
    target = (node.address, node.storage.port)
    others = [item for item in machines() if item != machine]
    closed = [item.name for item in others if reach(usable(item), [target])[target] is Reach.CLOSED]
    assert closed == []


def test_the_control_machine_is_let_through_only_if_it_is_of_the_fleet(node: Node) -> None:
    target = (node.address, node.storage.port)
    may = any(owns(item.node.address) for item in machines())
    assert (reach(control_machine(), [target])[target] is not Reach.CLOSED) == may


def test_the_firewall_in_force_is_the_declared_one_and_comes_back(host: Host) -> None:
    assert live_rules(host) == declared_rules(host)
    assert host.service("jarvis-firewall.service").is_enabled
