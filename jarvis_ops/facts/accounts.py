"""Users and groups of a host."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

from jarvis_ops.facts.value import Value

__all__ = ["AccountStates", "Accounts"]


@dataclass(frozen=True)
class Accounts(Value):
    """The groups of each user that exists, and which of the groups asked about exist."""

    users: dict[str, tuple[str, ...]]
    groups: tuple[str, ...]


class AccountStates(FactBase[Accounts]):
    """Which users and groups exist, and who belongs to what."""

    @staticmethod
    @override
    def default() -> Accounts:
        return Accounts({}, ())

    @override
    def command(self, users: tuple[str, ...], groups: tuple[str, ...]) -> str:
        wanted_users = " ".join(shlex.quote(user) for user in users)
        wanted_groups = " ".join(shlex.quote(group) for group in groups)
        return (
            f"for u in {wanted_users}; do "
            'if m=$(id -nG "$u" 2>/dev/null); then echo "user $u $m"; fi; done; '
            f"for g in {wanted_groups}; do "
            'if getent group "$g" >/dev/null; then echo "group $g"; fi; done'
        )

    @override
    def process(self, output: list[str]) -> Accounts:
        words = [line.split() for line in output]
        users = {line[1]: tuple(line[2:]) for line in words if line[0] == "user"}
        return Accounts(users, tuple(line[1] for line in words if line[0] == "group"))
