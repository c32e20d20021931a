"""What every host gets: basic packages and the firewall of its roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyinfra.api import deploy

from jarvis_ops import firewall as rules
from jarvis_ops.data import current_fleet, current_node
from jarvis_ops.operations import accounts, firewall, managed, packages, units
from jarvis_ops.operations.managed import ManagedDirectory, ManagedFile
from litellm_plugins.schema import Fleet, Role

if TYPE_CHECKING:
    from jarvis_ops.facts.snapshot import Question

__all__ = ["common", "questions"]

_PACKAGES = ("ca-certificates", "curl", "nftables")
_DIRECTORIES = (ManagedDirectory("/etc/jarvis"),)
_GATEWAY_HOME = "/var/lib/jarvis"


def questions(fleet: Fleet, name: str) -> list[Question[Any]]:
    """Return what `common` is going to ask of a node."""
    return [
        packages.installed(_PACKAGES),
        accounts.account(rules.GATEWAY_USER),
        managed.directory_states(_DIRECTORIES),
        managed.states(_files(fleet, name)),
        firewall.loaded(),
        units.states(rules.UNIT),
    ]


def _files(fleet: Fleet, name: str) -> tuple[ManagedFile, ...]:
    return (
        ManagedFile(rules.RULES_FILE, rules.rules(fleet, name), check="nft -c -f"),
        ManagedFile(rules.UNIT_FILE, rules.unit_text()),
    )


@deploy("Common")
def common() -> None:
    """Close the services of this project to the network, before any of them is there."""
    fleet = current_fleet()
    name, node = current_node()

    packages.present(name="Basic packages are installed", names=_PACKAGES)
    if Role.GATEWAY in node.roles:
        # The rules are about what this user sends, so it has to be there before them.
        accounts.system_user(
            name="The gateway's user exists", user=rules.GATEWAY_USER, home=_GATEWAY_HOME
        )
    managed.directories(name="The directory of settings is there", wanted=_DIRECTORIES)
    managed.files(name="The rules of the firewall are current", wanted=_files(fleet, name))
    firewall.live(name="The firewall is live", rules_sha256=rules.rules_sha256(fleet, name))
