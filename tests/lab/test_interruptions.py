"""Whatever a deploy is cut off in, the next run makes good; nothing unverified is ever live."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from control import Control, Run, eventually

from lab.internet import Fault, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.host import Host

NODE = "slow"
GATEWAY = "brain"

_ARCHIVE = "ollama-linux-amd64.tar.zst"
_STORE = "var/lib/ollama/models"
_INCOMING = "opt/ollama/.incoming"

_UNPACKS_HALF = """
cat >/usr/local/bin/tar <<'END'
#!/bin/sh
/usr/bin/tar "$@" lib
exec sleep 600
END
chmod +x /usr/local/bin/tar
"""
"""A disk so slow that the power can be cut while an archive is being unpacked."""


@pytest.fixture
def host(control: Control) -> Iterator[Host]:
    """A node without Ollama; whatever is done to it, it runs again at the end."""
    host = control.lab.hosts[NODE]
    control.shell(
        NODE,
        "systemctl disable --quiet --now ollama.service 2>/dev/null\n"
        "rm -rf /opt/ollama /var/lib/ollama /usr/local/bin/ollama /usr/local/bin/tar "
        "/etc/systemd/system/ollama.service\n",
    )
    yield host
    control.lab.internet.set_faults()
    if not host.is_running:
        host.boot()


def version(control: Control) -> str:
    return control.lab.state.supply.version


def archive_bytes(control: Control) -> int:
    release = control.lab.state.supply.releases / f"v{version(control)}"
    return (release / _ARCHIVE).stat().st_size


def downloads(control: Control) -> list[Request]:
    requests = control.lab.internet.requests()
    return [item for item in requests if item.method == "GET" and item.path.endswith(_ARCHIVE)]


def installed(host: Host) -> list[str]:
    """Return what counts as a release on a host's disk."""
    return sorted(path.name for path in (host.root / "opt/ollama").glob("[0-9]*"))


def files(host: Host, folder: str, pattern: str) -> list[Path]:
    """Return the files below a folder whose path ends like a pattern, while others come and go."""
    found = (Path(here, name) for here, _, names in os.walk(host.root / folder) for name in names)
    return [path for path in found if path.match(pattern)]


def cut_power_when(control: Control, host: Host, condition: Callable[[], bool]) -> Run:
    """Deploy a host, cut its power once something is so, and return how the run ends."""
    process = control.start("-y", "--limit", host.name)
    try:
        eventually(condition)
        host.power_cut()
        stdout, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
    run = Run(process.returncode, stdout, stderr)
    assert run.status != 0
    assert run.reason(host.name)
    return run


def assert_repaired(control: Control, host: Host) -> None:
    """Deploy again and check that all is there, whole, with nothing left of the run before."""
    control.deploy("--limit", host.name)
    assert control.run("-y", "--json", "--limit", host.name).changed == []
    assert installed(host) == [version(control)]
    assert {path.name for path in files(host, _INCOMING, "*")} <= {"lock"}
    assert files(host, _STORE, "*-partial*") == []
    url = f"http://{host.address}:11434"
    served = json.loads(control.shell(host.name, f"curl -fsS {url}/api/version"))
    assert served == {"version": version(control)}
    pulled = json.loads(control.shell(host.name, f"curl -fsS {url}/api/tags"))["models"]
    declared = control.lab.state.fleet.models_of(host.name)
    assert {item["name"] for item in pulled} == set(declared)
    control.shell(
        host.name,
        f"cd /{_STORE}/blobs\n"
        'for blob in sha256-*; do echo "${blob#sha256-}  $blob"; done | sha256sum --check --quiet',
    )


def test_power_cut_in_the_download(control: Control, host: Host) -> None:
    trickle = Fault(path="*.tar.zst", bytes_per_second=archive_bytes(control) // 20)
    with control.lab.internet.faults(trickle):
        cut_power_when(control, host, lambda: bool(files(host, _INCOMING, "*.tar.zst")))
    assert installed(host) == []

    host.boot()
    before = len(downloads(control))
    assert_repaired(control, host)
    assert all(item.range for item in downloads(control)[before:]), (
        "it did not go on where it stopped"
    )


def test_a_broken_connection_in_the_download(control: Control, host: Host) -> None:
    cut = Fault(path="*.tar.zst", cut_after_bytes=archive_bytes(control) // 2, times=1)
    with control.lab.internet.faults(cut):
        assert_repaired(control, host)


def test_a_damaged_part_of_a_download_is_not_built_on(control: Control, host: Host) -> None:
    folder = f"/{_INCOMING}/{version(control)}"
    size = archive_bytes(control) // 2
    control.shell(NODE, f"mkdir -p {folder}; head -c {size} /dev/zero >{folder}/{_ARCHIVE}")
    assert_repaired(control, host)


def test_power_cut_in_the_unpacking(control: Control, host: Host) -> None:
    control.shell(NODE, _UNPACKS_HALF)
    cut_power_when(control, host, lambda: bool(files(host, _INCOMING, "lib/ollama/*")))
    assert installed(host) == []

    (host.root / "usr/local/bin/tar").unlink()
    host.boot()
    assert_repaired(control, host)


def test_power_cut_in_the_pull(control: Control, host: Host) -> None:
    with control.lab.internet.faults(Fault(path="/blobs/*", bytes_per_second=200_000)):
        cut_power_when(control, host, lambda: bool(files(host, _STORE, "*-partial*")))
    assert files(host, f"{_STORE}/manifests", "*") == []

    host.boot()
    assert_repaired(control, host)


@pytest.mark.parametrize(
    "operation",
    [
        "Ollama | Its user exists",
        "Ollama | The release is installed and live",
        "Ollama | Its unit is current",
        "Ollama | It runs as its unit says",
        "Ollama | It answers",
        "Ollama | The models are pulled",
    ],
)
def test_the_control_process_is_killed(control: Control, host: Host, operation: str) -> None:
    process = control.start("-y", "--limit", NODE)
    assert process.stderr is not None
    seen = any(operation in line for line in process.stderr)
    process.kill()
    process.communicate()
    assert seen, f"no operation {operation!r}"
    assert_repaired(control, host)


def test_the_control_process_is_killed_in_the_download(control: Control, host: Host) -> None:
    trickle = Fault(path="*.tar.zst", bytes_per_second=archive_bytes(control) // 20)
    with control.lab.internet.faults(trickle):
        process = control.start("-y", "--limit", NODE)
        eventually(lambda: bool(files(host, _INCOMING, "*.tar.zst")))
        process.kill()
        process.communicate()
    assert_repaired(control, host)


def test_power_cut_in_the_building_of_the_gateway(control: Control) -> None:
    gateway = control.lab.hosts[GATEWAY]
    control.shell(GATEWAY, "systemctl stop jarvis-gateway.service; rm -rf /opt/jarvis")
    cut_power_when(
        control,
        gateway,
        lambda: bool(files(gateway, "opt/jarvis", "site-packages/litellm/main.py")),
    )
    assert not (gateway.root / "opt/jarvis/current").is_symlink()

    gateway.boot()
    control.deploy("--limit", GATEWAY)
    assert control.run("-y", "--json", "--limit", GATEWAY).changed == []
    assert control.get("/health/live").status == 200
