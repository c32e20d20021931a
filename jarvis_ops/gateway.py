"""What the gateway looks like, by its declaration: release, paths, unit, Caddy's configuration."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jarvis_ops import wheel
from jarvis_ops.firewall import GATEWAY_PORT, GATEWAY_USER
from jarvis_ops.text import render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litellm_plugins.schema import Fleet

__all__ = [
    "AUTHORITY_FILE",
    "CADDYFILE",
    "CADDY_DROP_IN",
    "CADDY_SOCKET",
    "CADDY_UNIT",
    "FLEET_FILE",
    "INCOMING",
    "ROOT",
    "UNIT",
    "UNIT_FILE",
    "URL",
    "Endpoint",
    "Release",
    "caddy_drop_in",
    "caddy_marker",
    "caddyfile",
    "caddyfile_marker",
    "endpoint",
    "has_own_authority",
    "ports",
    "release",
]

ROOT = "/opt/jarvis"
INCOMING = f"{ROOT}/.incoming"
FLEET_FILE = "/etc/jarvis/fleet.json"
UNIT = "jarvis-gateway.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
URL = f"http://127.0.0.1:{GATEWAY_PORT}"

CADDY_UNIT = "caddy.service"
CADDYFILE = "/etc/caddy/Caddyfile"
CADDY_DROP_IN = f"/etc/systemd/system/{CADDY_UNIT}.d/jarvis.conf"
CADDY_SOCKET = "/run/caddy/admin.sock"
AUTHORITY_FILE = "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt"

_HTTPS_PORT = 443
_HTTP_PORT = 80

_ID_DIGITS = 12
_MARKER_DIGITS = 16


@dataclass(frozen=True)
class Release:
    """A release of the gateway: what it is installed from, and the unit that runs it.

    `bundle` is a gzipped tar archive of the wheel, the pinned requirements and the unit. `id` is
    made of what will run, so that the same sources give the same release on every control machine.
    """

    id: str
    bundle: bytes = field(repr=False)
    unit: str = field(repr=False)


@dataclass(frozen=True)
class Endpoint:
    """Where clients connect to; `files` is what Caddy needs for it on the machine."""

    hostname: str
    port: int
    address: str
    files: tuple[str, ...] = ()


@functools.cache
def release() -> Release:
    """Return the release that this checkout makes."""
    built = wheel.build()
    requirements = wheel.PROJECT / "requirements"
    packages = (requirements / "gateway.txt").read_bytes()
    parts = (built.package_sha256.encode(), packages, _unit("").encode())
    digests = "".join(hashlib.sha256(part).hexdigest() for part in parts)
    identity = hashlib.sha256(digests.encode()).hexdigest()[:_ID_DIGITS]
    unit = _unit(identity)
    files = {
        built.name: built.content,
        "gateway.txt": packages,
        "uv.txt": (requirements / "uv.txt").read_bytes(),
        UNIT: unit.encode(),
    }
    return Release(identity, _bundle(files), unit)


def _unit(identity: str) -> str:
    return render(
        f"{UNIT}.j2",
        release=identity,
        root=ROOT,
        user=GATEWAY_USER,
        fleet_file=FLEET_FILE,
        port=GATEWAY_PORT,
    )


def _bundle(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


def endpoint(fleet: Fleet) -> Endpoint:
    """Return where clients of a fleet connect to."""
    _, node = fleet.gateway_node
    gateway = fleet.gateway
    files = tuple(path for path in (gateway.tls.certificate, gateway.tls.key) if path is not None)
    return Endpoint(gateway.hostname, gateway.port, str(node.address), files)


def ports(fleet: Fleet) -> dict[int, str]:
    """Return the TCP ports that the gateway needs, each with the unit that listens there."""
    public = [fleet.gateway.port, *([_HTTP_PORT] if _redirects(fleet) else [])]
    return {GATEWAY_PORT: UNIT, **dict.fromkeys(public, CADDY_UNIT)}


def has_own_authority(fleet: Fleet) -> bool:
    """Return whether Caddy's own authority certifies the endpoint, or its address at least."""
    return fleet.gateway.tls.mode != "files"


def caddyfile(fleet: Fleet) -> str:
    """Return Caddy's configuration, which carries its own marker."""
    return _caddyfile(fleet, caddyfile_marker(fleet))


def caddyfile_marker(fleet: Fleet) -> str:
    """Return what tells one configuration from another; Caddy shows the one it has loaded."""
    return _marker(_caddyfile(fleet, ""))


def caddy_drop_in() -> str:
    """Return what is added to Debian's unit of Caddy."""
    return _drop_in(caddy_marker())


def caddy_marker() -> str:
    """Return what tells one form of Caddy's unit from another."""
    return _marker(_drop_in(""))


def _drop_in(marker: str) -> str:
    return render("caddy.conf.j2", marker=marker)


def _marker(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_MARKER_DIGITS]


def _redirects(fleet: Fleet) -> bool:
    """Return whether port 80 leads to the endpoint.

    Where the endpoint has a port of its own choice, the usual ones are likely another server's.
    """
    return fleet.gateway.port == _HTTPS_PORT


def _caddyfile(fleet: Fleet, marker: str) -> str:
    _, node = fleet.gateway_node
    gateway = fleet.gateway
    is_internal = gateway.tls.mode == "internal"
    return render(
        "Caddyfile.j2",
        marker=marker,
        hostname=gateway.hostname,
        port=gateway.port,
        tls=gateway.tls,
        # The authority's certificate for the address, where the host name has another one.
        default_sni=gateway.hostname if gateway.tls.mode == "files" else node.address,
        sites=_sites(fleet),
        is_loopback=node.address.is_loopback,
        redirects=_redirects(fleet),
        is_strict=_redirects(fleet) and not is_internal,
        upstream=f"127.0.0.1:{GATEWAY_PORT}",
    )


@dataclass(frozen=True)
class _Site:
    """Names that share a certificate, as URLs, and the arguments of Caddy's `tls`.

    Without arguments the certificate comes from a public authority.
    """

    urls: tuple[str, ...]
    certificate: str


def _sites(fleet: Fleet) -> tuple[_Site, ...]:
    _, node = fleet.gateway_node
    gateway = fleet.gateway
    by_name = f"https://{gateway.hostname}:{gateway.port}"
    by_address = f"https://{node.address}:{gateway.port}"
    both = tuple(dict.fromkeys((by_name, by_address)))
    if gateway.tls.mode == "internal":
        return (_Site(both, "internal"),)
    if gateway.tls.mode == "files":
        return (_Site(both, f"{gateway.tls.certificate} {gateway.tls.key}"),)
    return (_Site((by_name,), ""), _Site((by_address,), "internal"))
