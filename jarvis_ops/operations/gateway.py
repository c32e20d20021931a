"""The gateway: its release, its service, its fleet file, and Caddy in front of it."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pyinfra.api import (
    FileDownloadCommand,
    FileUploadCommand,
    FunctionCommand,
    OperationValueError,
    QuoteString,
    StringCommand,
    operation,
)
from pyinfra.context import host

from jarvis_ops.facts.gateway import Caddy, CaddyState, Gateway, GatewayState
from jarvis_ops.facts.snapshot import Question, ask, forget, question
from jarvis_ops.facts.units import UnitState
from jarvis_ops.firewall import GATEWAY_USER
from jarvis_ops.gateway import (
    AUTHORITY_FILE,
    CADDY_SOCKET,
    CADDY_UNIT,
    CADDYFILE,
    FLEET_FILE,
    INCOMING,
    ROOT,
    UNIT,
    UNIT_FILE,
    URL,
    Endpoint,
    Release,
)
from jarvis_ops.operations import units
from jarvis_ops.operations.live import LiveCommand
from jarvis_ops.operations.managed import ManagedFile
from jarvis_ops.text import script
from litellm_plugins.schema import FleetError, load_fleet

if TYPE_CHECKING:
    from collections.abc import Generator

    from pyinfra.api.command import PyinfraCommand

__all__ = ["authority", "caddy", "configuration", "endpoint", "release", "service", "state"]

_CANDIDATE = f"{FLEET_FILE}.candidate"
_ID = re.compile(r"^[0-9a-f]{12}$")
_MARKER = re.compile(r"^[0-9a-f]{16}$")
_CHECK_SECONDS = 120
_START_SECONDS = 90
_ENDPOINT_SECONDS = 90
"""A public authority takes some seconds for its certificate; Caddy's own takes none."""

_AUTHORITY_SECONDS = 30
_JOURNAL_LINES = 20
_OK = 200


def state() -> Question[Gateway]:
    """Return the question of `release`, `service` and `configuration`, to gather it ahead."""
    return question(GatewayState, root=ROOT, unit_file=UNIT_FILE, fleet_file=FLEET_FILE, url=URL)


def caddy(served: Endpoint) -> Question[Caddy]:
    """Return the question that `endpoint` and `authority` ask, to gather it ahead."""
    return question(
        CaddyState,
        caddyfile=CADDYFILE,
        socket=CADDY_SOCKET,
        authority=AUTHORITY_FILE,
        hostname=served.hostname,
        port=served.port,
        address=served.address,
        files=served.files,
    )


@operation()
def release(wanted: Release) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that a release of the gateway is installed, beside the one that runs.

    + wanted: the release
    """
    if not _ID.match(wanted.id):
        raise OperationValueError(f"release {wanted.id!r} is not 12 hex digits")
    if wanted.id in ask(host, state()).installed:
        host.noop(f"release {wanted.id} is installed")
        return
    bundle = f"{INCOMING}/{wanted.id}.tar.gz"
    yield FileUploadCommand(io.BytesIO(wanted.bundle), bundle)
    yield _run("gateway-install.sh", ROOT, wanted.id, bundle, UNIT)
    forget(host)


@operation()
def service(wanted: Release, fleet: str) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that an installed release of the gateway runs and answers.

    It is started once with the fleet before anything is replaced. If it does not come up
    afterwards, the one before it does, and the operation fails.

    + wanted: the release
    + fleet: the fleet file that it shall run with
    """
    _check_fleet(fleet)
    found = ask(host, state())
    unit = ask(host, units.states(UNIT)).get(UNIT, UnitState())
    is_running = unit.active == "active" and unit.marker == wanted.id and found.is_live
    is_in_place = found.current == wanted.id and found.unit == _fingerprint(_unit_file(wanted))
    if is_running and is_in_place and unit.enabled and not unit.needs_reload:
        host.noop(f"release {wanted.id} runs and answers")
        return
    yield from _stage(wanted, fleet)
    yield _run(
        "gateway-switch.sh",
        *(ROOT, wanted.id, UNIT_FILE, FLEET_FILE, _CANDIDATE, URL),
        *(str(_START_SECONDS), str(_JOURNAL_LINES)),
    )
    forget(host)


@operation()
def configuration(wanted: Release, fleet: str) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that the gateway has this fleet file, which it takes up while it runs.

    + wanted: the release that runs; it has to start with the fleet before the file is replaced
    + fleet: content of the file
    """
    _check_fleet(fleet)
    if ask(host, state()).fleet == _fingerprint(_fleet_file(fleet)):
        host.noop("the fleet file is as declared")
        return
    yield from _stage(wanted, fleet)
    yield StringCommand("mv", "-f", _CANDIDATE, FLEET_FILE)
    forget(host)


@operation()
def endpoint(marker: str, served: Endpoint) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that Caddy has loaded its configuration and that the endpoint answers through it.

    Running answers are not cut.

    + marker: what the configuration carries to be told from others
    + served: name, port and address of the endpoint
    """
    if not _MARKER.match(marker):
        raise OperationValueError(f"marker {marker!r} is not 16 hex digits")
    found = ask(host, caddy(served))
    if found.loaded == marker and found.status == _OK:
        host.noop("the endpoint answers as configured")
        return
    yield _run(
        "caddy-reload.sh",
        *(CADDY_UNIT, CADDY_SOCKET, marker, served.hostname, str(served.port), served.address),
        *(str(_ENDPOINT_SECONDS), str(_JOURNAL_LINES)),
    )
    forget(host)


@operation()
def authority(path: str, served: Endpoint) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that the control machine has the certificate of Caddy's authority, which is public.

    + path: file on the control machine
    + served: name, port and address of the endpoint
    """
    if not path:
        raise OperationValueError("the path of the authority's certificate is empty")
    found = ask(host, caddy(served)).authority
    if found is not None and found == _local_text(Path(path)):
        host.noop(f"{path} is the authority's certificate")
        return
    if found is None:
        yield _run("caddy-authority.sh", AUTHORITY_FILE, str(_AUTHORITY_SECONDS))
    yield FunctionCommand(_make_parent, (path,), {})
    yield FileDownloadCommand(AUTHORITY_FILE, path)


def _stage(wanted: Release, fleet: str) -> Generator[PyinfraCommand, None, None]:
    """Put the fleet file beside its place and start the release with it once."""
    item = _fleet_file(fleet)
    owner = f"{item.user}:{item.group}"
    yield StringCommand("install", "-m", "600", "/dev/null", _CANDIDATE)
    yield FileUploadCommand(io.BytesIO(fleet.encode()), _CANDIDATE)
    yield StringCommand("chown", owner, _CANDIDATE, "&&", "chmod", item.mode, _CANDIDATE)
    yield _run("gateway-check.sh", ROOT, wanted.id, UNIT, _CANDIDATE, str(_CHECK_SECONDS))


def _run(name: str, *arguments: str) -> LiveCommand:
    return LiveCommand("sh", "-c", QuoteString(script(name, arguments)))


def _check_fleet(fleet: str) -> None:
    try:
        load_fleet(fleet)
    except FleetError as error:
        raise OperationValueError(f"the fleet file is not valid: {error}") from None


def _unit_file(wanted: Release) -> ManagedFile:
    return ManagedFile(UNIT_FILE, wanted.unit)


def _fleet_file(fleet: str) -> ManagedFile:
    return ManagedFile(FLEET_FILE, fleet, mode="640", group=GATEWAY_USER)


def _fingerprint(item: ManagedFile) -> str:
    wanted = item.state
    return f"{wanted.mode} {wanted.user} {wanted.group} {wanted.sha256}"


def _local_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _make_parent(path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
