"""The gateway: LiteLLM with our plugin, and Caddy in front of it."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

from pyinfra.api import deploy
from pyinfra.context import host

from jarvis_ops import gateway as wanted
from jarvis_ops.data import current_fleet
from jarvis_ops.facts.machine import Spaces
from jarvis_ops.facts.snapshot import ask, question
from jarvis_ops.operations import gateway as operations
from jarvis_ops.operations import managed, packages, units
from jarvis_ops.operations.managed import ManagedDirectory, ManagedFile
from jarvis_ops.text import script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jarvis_ops.facts.snapshot import Question
    from litellm_plugins.schema import Fleet

__all__ = ["gateway", "ports", "problems", "questions"]

_PACKAGES = ("python3-venv", "caddy")
_DIRECTORIES = (
    ManagedDirectory(wanted.ROOT),
    ManagedDirectory(wanted.INCOMING, mode="700"),
)
_SPACE = question(Spaces, paths=(wanted.ROOT,))

_RELEASE_BYTES = 1_000_000_000
"""Disk that a release takes while it is made: 720 MB for itself, 110 MB for its installer."""

_CA_FILE_VARIABLE = "JARVIS_CA_FILE"
_CA_FILE = ".jarvis/ca.crt"


def ports(fleet: Fleet) -> dict[int, str]:
    """Return the TCP ports that the gateway needs and the units that may hold them."""
    return wanted.ports(fleet)


def questions(fleet: Fleet) -> list[Question[Any]]:
    """Return what `gateway` and the checks before it are going to ask of the gateway's node."""
    return [
        _SPACE,
        packages.installed(_PACKAGES),
        managed.directory_states(_DIRECTORIES),
        operations.state(),
        units.states(wanted.UNIT),
        managed.states(_caddy_files(fleet)),
        units.states(wanted.CADDY_UNIT),
        operations.caddy(wanted.endpoint(fleet)),
    ]


def problems(fleet: Fleet) -> Iterator[str]:
    """Yield a sentence for each reason why this node cannot become the gateway."""
    caddy = ask(host, operations.caddy(wanted.endpoint(fleet)))
    if not caddy.is_available:
        yield (
            "there is no package of Caddy for this system, as on Ubuntu 22.04; add the Caddy "
            "project's own package source (https://caddyserver.com/docs/install), run "
            "'apt-get update', and deploy again"
        )
    if caddy.foreign is not None:
        yield (
            f"{caddy.foreign} is somebody's own configuration of Caddy, which would be replaced; "
            "move it away, or make another machine the gateway"
        )
    for path in caddy.missing:
        yield f"gateway.tls: there is no file {path} on the machine"
    free = ask(host, _SPACE)[wanted.ROOT].free
    is_installed = wanted.release().id in ask(host, operations.state()).installed
    if not is_installed and free < _RELEASE_BYTES:
        yield (
            f"{wanted.ROOT} has {free / 1e9:.1f} GB of free disk, and a release of the gateway "
            f"needs {_RELEASE_BYTES / 1e9:.1f} GB"
        )


def _caddy_files(fleet: Fleet) -> tuple[ManagedFile, ...]:
    validate = f"sh -c {shlex.quote(script('caddy-validate.sh'))} sh"
    return (
        ManagedFile(wanted.CADDY_DROP_IN, wanted.caddy_drop_in()),
        ManagedFile(wanted.CADDYFILE, wanted.caddyfile(fleet), check=validate),
    )


@deploy("Gateway")
def gateway() -> None:
    """Install the release, run it with the fleet, and have Caddy serve it over TLS."""
    fleet = current_fleet()
    _install()
    _run(fleet)
    _serve(fleet)


def _install() -> None:
    packages.present(name="The packages that it needs are installed", names=_PACKAGES)
    managed.directories(name="Its directories are there", wanted=_DIRECTORIES)
    operations.release(name="The release is installed", wanted=wanted.release())


def _run(fleet: Fleet) -> None:
    release = wanted.release()
    content = fleet.model_dump_json()
    units.without_drop_ins(name="Its unit is ours alone", unit=wanted.UNIT)
    operations.service(name="The release runs and answers", wanted=release, fleet=content)
    operations.configuration(name="The fleet file is as declared", wanted=release, fleet=content)


def _serve(fleet: Fleet) -> None:
    served = wanted.endpoint(fleet)
    managed.files(name="Caddy's files are current", wanted=_caddy_files(fleet))
    units.running(
        name="Caddy runs as its unit says", unit=wanted.CADDY_UNIT, marker=wanted.caddy_marker()
    )
    operations.endpoint(
        name="The endpoint answers as configured",
        marker=wanted.caddyfile_marker(fleet),
        served=served,
    )
    if wanted.has_own_authority(fleet):
        operations.authority(
            name="The authority's certificate is on this machine",
            path=os.environ.get(_CA_FILE_VARIABLE) or _CA_FILE,
            served=served,
        )
