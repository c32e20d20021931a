"""How the lab's hosts are logged into: as an ordinary user with a key, as users do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.host import File
from lab.system import replace_text, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Address
    from pathlib import Path

__all__ = ["USER", "Login"]

USER = "lab"

_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"


@dataclass(frozen=True)
class Login:
    """The keys and the client's settings; `sockets` is a short path for shared connections."""

    directory: Path
    sockets: Path

    @property
    def config(self) -> Path:
        """The settings, for ssh(1), pyinfra and testinfra."""
        return self.directory / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """The public keys of all hosts."""
        return self.directory / "known_hosts"

    @property
    def _key(self) -> Path:
        return self.directory / "id_ed25519"

    def prepare(self, host: str) -> list[File]:
        """Make the keys that are not there yet; return the files that a host needs for them."""
        own = self._host_key(host)
        for path in (self._key, own):
            if not path.exists():
                _make_key(path)
        return [
            File(_HOST_KEY, own.read_text(), 0o600),
            File(f"{_HOST_KEY}.pub", _public(own)),
            File(f"/home/{USER}/.ssh/authorized_keys", _public(self._key)),
        ]

    def change_host_key(self, host: str) -> list[File]:
        """Give a host a new key that the clients do not know of; return its files."""
        known = self.known_hosts.read_text()
        self._host_key(host).unlink()
        files = self.prepare(host)
        replace_text(self.known_hosts, known)
        return files

    def write(self, hosts: Mapping[str, IPv4Address]) -> None:
        """Write the settings and the known keys for these hosts."""
        keys = {name: _public(self._host_key(name)) for name in hosts}
        known = [f"{name},{address} {keys[name]}" for name, address in hosts.items()]
        replace_text(self.known_hosts, "".join(known))
        entries = [_HOST.format(name=name, address=address) for name, address in hosts.items()]
        common = _COMMON.format(
            user=USER, key=self._key, known_hosts=self.known_hosts, sockets=self.sockets
        )
        replace_text(self.config, "\n".join([*entries, common]))

    def _host_key(self, host: str) -> Path:
        return self.directory / "host-keys" / host


# A host of these names is the lab's wherever it really is, so the settings hold for both names.
_HOST = """\
Host {name} {address}
    HostName {address}
"""

_COMMON = """\
Host *
    User {user}
    IdentityFile {key}
    IdentitiesOnly yes
    UserKnownHostsFile {known_hosts}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    ConnectTimeout 5
    ServerAliveInterval 5
    ServerAliveCountMax 3
    ControlMaster auto
    ControlPath {sockets}/ssh-%C
    ControlPersist 30
"""


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path))


def _public(path: Path) -> str:
    return path.with_name(f"{path.name}.pub").read_text()
