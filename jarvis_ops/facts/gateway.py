"""The gateway: its releases, what runs, and Caddy in front of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

from jarvis_ops.facts.value import Value
from jarvis_ops.text import script

__all__ = ["Caddy", "CaddyState", "Gateway", "GatewayState"]


@dataclass(frozen=True)
class Gateway(Value):
    """Releases and files of the gateway.

    `installed` are the complete releases, `current` is the last one that came up. `unit` and
    `fleet` say mode, owner, group and sha256 of the files, None if there is none. `is_live` tells
    whether the process answers.
    """

    installed: tuple[str, ...] = ()
    current: str | None = None
    unit: str | None = None
    fleet: str | None = None
    is_live: bool = False


class GatewayState(FactBase[Gateway]):
    """The releases of the gateway below a directory, its files, and whether it answers."""

    default = Gateway

    @override
    def command(self, root: str, unit_file: str, fleet_file: str, url: str) -> str:
        return script("gateway.sh", (root, unit_file, fleet_file, url))

    @override
    def process(self, output: list[str]) -> Gateway:
        found = _values(output)
        return Gateway(
            installed=tuple(sorted(found["complete"])),
            current=_only(found["current"]),
            unit=_only(found["unit"]),
            fleet=_only(found["fleet"]),
            is_live="live" in found,
        )


@dataclass(frozen=True)
class Caddy(Value):
    """What Caddy serves, and what stands in its way.

    `loaded` is the marker of the configuration that it runs with, `status` the HTTP status of the
    endpoint's health check, 0 if it does not answer. `authority` is the certificate of Caddy's
    own authority, in PEM. `is_available` is false if no source of packages has it; `foreign` is a
    configuration that is neither ours nor the package's; `missing` are files that are not there.
    """

    loaded: str | None = None
    status: int = 0
    authority: str | None = None
    is_available: bool = True
    foreign: str | None = None
    missing: tuple[str, ...] = ()


class CaddyState(FactBase[Caddy]):
    """What Caddy serves for a host name, port and address, and what stands in its way."""

    default = Caddy

    @override
    def command(
        self,
        caddyfile: str,
        socket: str,
        authority: str,
        hostname: str,
        port: int,
        address: str,
        files: tuple[str, ...],
    ) -> str:
        return script(
            "caddy.sh", (caddyfile, socket, authority, hostname, str(port), address, *files)
        )

    @override
    def process(self, output: list[str]) -> Caddy:
        found = _values(output)
        pem = found["authority"]
        return Caddy(
            loaded=_only(found["loaded"]),
            status=int(_only(found["status"]) or 0),
            authority="".join(f"{line}\n" for line in pem) if pem else None,
            is_available="unavailable" not in found,
            foreign=_only(found["foreign"]),
            missing=tuple(found["missing"]),
        )


def _values(output: list[str]) -> defaultdict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for key, _, value in (line.partition("=") for line in output):
        found[key].append(value)
    return found


def _only(values: list[str]) -> str | None:
    return (values[0] or None) if values else None
