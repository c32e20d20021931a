"""The machines as the inventory declares them, and how they are reached.

The hosts and all that is expected of them come from the inventory, by way of pyinfra itself, so
that an overlay and `group_data` count here as they do in a deploy.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import testinfra
from testinfra.backend.local import LocalBackend
from testinfra.backend.ssh import SshBackend
from testinfra.host import Host

from litellm_plugins.schema import Fleet, Node, Role, load_fleet

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Address

    from testinfra.backend.base import BaseBackend, CommandResult

__all__ = [
    "ROOT",
    "Machine",
    "Reach",
    "control_machine",
    "declared_fleet",
    "gateway_machine",
    "machines",
    "owns",
    "reach",
    "usable",
]

ROOT = Path(__file__).parents[2]

_PASSWORD_VARIABLE = "JARVIS_SUDO_PASSWORD"

_TIMED_OUT = 124
"""Exit status of `timeout` when it had to end the command."""


@dataclass(frozen=True)
class Machine:
    """One declared machine; `ssh_name` is None for the machine that this runs on."""

    name: str
    node: Node
    ssh_name: str | None


@functools.cache
def _listing() -> list[dict[str, Any]]:
    inventory = Path(os.environ.get("JARVIS_INVENTORY", "inventory.py")).absolute()
    result = subprocess.run(
        [Path(sys.executable).with_name("pyinfra"), inventory, "debug-inventory", "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    if result.returncode or not inventory.is_file():
        raise pytest.UsageError(f"{inventory} is no inventory that pyinfra reads:\n{result.stderr}")
    listing: list[dict[str, Any]] = json.loads(result.stdout)
    return listing


@functools.cache
def declared_fleet() -> Fleet:
    """Return the fleet that the inventory declares."""
    return load_fleet(_listing()[0]["data"]["fleet"])


@functools.cache
def machines(role: Role | None = None) -> tuple[Machine, ...]:
    """Return the machines, or those with a role, in declared order."""
    fleet = declared_fleet()
    ssh_names = {item["data"]["node_name"]: item["data"].get("ssh_hostname") for item in _listing()}
    chosen = fleet.nodes if role is None else fleet.nodes_with(role)
    return tuple(Machine(name, node, ssh_names[name]) for name, node in chosen.items())


def gateway_machine() -> Machine:
    """Return the machine that is the gateway."""
    return machines(Role.GATEWAY)[0]


class _AsksPassword:
    """Give sudo the password on its standard input, where no process list shows it."""

    def get_sudo_command(self, command: str, sudo_user: str | None) -> str:
        del sudo_user
        return f"sudo -S -p '' /bin/sh -c {shlex.quote(command)}"

    def run_local(self, command: str, *args: str) -> CommandResult:
        piped = f"printenv {_PASSWORD_VARIABLE} | {command}"
        return super().run_local(piped, *args)  # type: ignore[misc]


class _SshWithPassword(_AsksPassword, SshBackend): ...


class _LocalWithPassword(_AsksPassword, LocalBackend): ...


@functools.cache
def _connection(ssh_name: str | None) -> Host:
    with_password = _PASSWORD_VARIABLE in os.environ
    backend: BaseBackend
    if ssh_name is None:
        local = _LocalWithPassword if with_password else LocalBackend
        backend = local(sudo=os.geteuid() != 0)
    else:
        ssh = _SshWithPassword if with_password else SshBackend
        backend = ssh(
            ssh_name,
            ssh_config=os.environ.get("JARVIS_SSH_CONFIG"),
            ssh_extra_args=_shared_connection(),
            sudo=True,
        )
    host = Host(backend)
    backend.set_host(host)
    return host


@functools.cache
def _shared_connection() -> str:
    """Return options of ssh by which all commands to a host share one connection."""
    folder = tempfile.mkdtemp(prefix="jarvis-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return (
        f"-o BatchMode=yes -o ControlMaster=auto -o ControlPath={folder}/%C -o ControlPersist=15s"
    )


@functools.cache
def _why_unusable(ssh_name: str | None) -> str | None:
    """Return why commands cannot be run as root on a machine, or None if they can."""
    try:
        result = _connection(ssh_name).run("true")
    except RuntimeError as error:
        result = error.args[0]
        return f"it cannot be reached over SSH: {_last_line(result.stderr)}"
    if result.failed:
        return (
            f"sudo does not work there: {_last_line(result.stderr)} "
            f"(a password for sudo is taken from {_PASSWORD_VARIABLE})"
        )
    return None


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def usable(machine: Machine) -> Host:
    """Return the connection to a machine, or end the test with the reason why there is none."""
    reason = _why_unusable(machine.ssh_name)
    if reason:
        pytest.fail(f"{machine.name}: {reason}", pytrace=False)
    return _connection(machine.ssh_name)


def control_machine() -> Host:
    """Return the machine that this runs on, without sudo."""
    return testinfra.get_host("local://")


def owns(address: IPv4Address) -> bool:
    """Whether an address is one of the machine that this runs on."""
    with socket.socket() as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


class Reach(Enum):
    """What a machine sees of a port of another one."""

    OPEN = "something answers"
    REFUSED = "an answer, but nothing listens"
    CLOSED = "nothing comes back"


Target = tuple["IPv4Address", int]
"""An address and a port."""

_PROBES = """
for target in $*; do
    (
        said=$(timeout 2 bash -c "exec 3<>/dev/tcp/$target" 2>&1)
        printf '%s %s %s\\n' "$target" $? "$(echo $said)"
    ) &
done
wait
"""


def reach(origin: Host, targets: Iterable[Target], user: str | None = None) -> dict[Target, Reach]:
    """Try to connect from one machine, as a user of it, to ports of others, all at once.

    Raises:
        AssertionError: if that could not be tried.

    """
    by_name = {f"{address}/{port}": (address, port) for address, port in targets}
    identity = f"setpriv --reuid {user} --clear-groups " if user else ""
    script = f"{identity}bash -c %s probes {' '.join(by_name)}"
    lines = [line.split(" ", 2) for line in origin.check_output(script, _PROBES).splitlines()]
    found = {by_name[target]: _reach(int(status), said) for target, status, said in lines}
    assert set(found) == set(by_name.values())
    return found


def _reach(status: int, said: str) -> Reach:
    if status == 0:
        return Reach.OPEN
    if "refused" in said:
        return Reach.REFUSED
    assert status == _TIMED_OUT or "route" in said, said
    return Reach.CLOSED
