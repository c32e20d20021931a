"""The gateway's scripts, run here on directories made for them, with stand-ins for systemd."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jarvis_ops import gateway
from jarvis_ops.facts.gateway import Caddy, CaddyState, Gateway, GatewayState
from jarvis_ops.text import script

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="hosts are Linux")

OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
UNIT = "jarvis-gateway.service"

# Starts and stops a process that carries the release of the unit in its environment, as systemd
# would. A release that is named in `dying` ends at once and is started again.
SYSTEMCTL = """
state={state}
echo "$@" >>$state/log
case $1 in
show)
    case $3 in
    MainPID) cat $state/pid 2>/dev/null || echo 0 ;;
    NRestarts) cat $state/restarts 2>/dev/null || echo 0 ;;
    NeedDaemonReload) echo no ;;
    esac ;;
restart)
    [ ! -e $state/pid ] || kill $(cat $state/pid) 2>/dev/null
    release=$(sed -n 's/^Environment=JARVIS_UNIT=//p' {unit_file})
    env JARVIS_UNIT=$release sleep 60 >/dev/null 2>&1 9>&- &
    echo $! >$state/pid
    echo $release >$state/running
    if grep -q $release $state/dying; then (sleep 0.2; echo 1 >$state/restarts) 9>&- & fi ;;
stop) kill $(cat $state/pid); rm $state/pid $state/running ;;
esac
"""

# The health check: a release that is not named in `dying` or `silent` answers.
CURL = """
[ -e {state}/running ] && ! cat {state}/dying {state}/silent | grep -q "$(cat {state}/running)"
"""


def tool(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def sh(text: str, tools: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", text],
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@dataclass(frozen=True)
class Machine:
    """A host's directories, below one that is made for the test."""

    path: Path

    @property
    def root(self) -> Path:
        return self.path / "opt"

    @property
    def unit_file(self) -> Path:
        return self.path / "units" / UNIT

    @property
    def fleet(self) -> Path:
        return self.path / "fleet.json"

    @property
    def candidate(self) -> Path:
        return self.path / "fleet.json.candidate"

    @property
    def tools(self) -> Path:
        return self.path / "tools"

    @property
    def state(self) -> Path:
        return self.path / "state"

    def install(self, release: str) -> None:
        directory = self.root / release
        directory.mkdir(parents=True)
        python = os.path.realpath("/usr/bin/python3")
        (directory / ".complete").write_text(f"{python}\n")
        (directory / UNIT).write_text(f"[Service]\nEnvironment=JARVIS_UNIT={release}\n")

    def switch(self, release: str, fleet: str = "new") -> subprocess.CompletedProcess[str]:
        self.candidate.write_text(fleet)
        arguments = (
            self.root,
            release,
            self.unit_file,
            self.fleet,
            self.candidate,
            "http://x",
            3,
            5,
        )
        return sh(script("gateway-switch.sh", [str(item) for item in arguments]), self.tools)

    def running(self) -> str | None:
        """The release in the environment of the process."""
        if not (self.state / "pid").exists():
            return None
        environ = Path(f"/proc/{(self.state / 'pid').read_text().strip()}/environ").read_text()
        return dict(pair.split("=", 1) for pair in environ.split("\0") if pair)["JARVIS_UNIT"]

    def links(self) -> dict[str, str]:
        return {
            path.name: str(path.readlink()) for path in self.root.iterdir() if path.is_symlink()
        }

    def releases(self) -> set[str]:
        found = (path for path in self.root.iterdir() if not path.is_symlink())
        return {path.name for path in found if path.name != ".incoming"}

    def restarts(self) -> int:
        return (self.state / "log").read_text().splitlines().count(f"restart {UNIT}")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    for directory in (made.root / ".incoming", made.unit_file.parent, made.tools, made.state):
        directory.mkdir(parents=True)
    for name in ("dying", "silent", "log"):
        (made.state / name).touch()
    tool(made.tools, "systemctl", SYSTEMCTL.format(state=made.state, unit_file=made.unit_file))
    tool(made.tools, "curl", CURL.format(state=made.state))
    tool(made.tools, "journalctl", "echo its last words")
    yield made
    if (made.state / "pid").exists():
        os.kill(int((made.state / "pid").read_text()), signal.SIGKILL)


@pytest.fixture
def deployed(machine: Machine) -> Machine:
    """A machine on which the old release runs, with the old fleet."""
    machine.install(OLD)
    assert machine.switch(OLD, "old").returncode == 0
    machine.install(NEW)
    return machine


def test_first_release_comes_up(machine: Machine) -> None:
    machine.install(NEW)
    ended = machine.switch(NEW)
    assert ended.returncode == 0, ended.stderr
    assert machine.running() == NEW
    assert machine.links() == {"current": NEW}
    assert machine.fleet.read_text() == "new"
    assert f"enable --quiet {UNIT}" in (machine.state / "log").read_text()


def test_first_release_that_does_not_come_up_is_stopped(machine: Machine) -> None:
    machine.install(NEW)
    (machine.state / "silent").write_text(NEW)
    ended = machine.switch(NEW)
    assert ended.returncode != 0
    assert "there is none to go back to" in ended.stderr.splitlines()[-1]
    assert machine.running() is None
    assert machine.links() == {}


def test_next_release_takes_over_and_the_one_before_is_kept(deployed: Machine) -> None:
    deployed.install("cccccccccccc")
    assert deployed.switch(NEW).returncode == 0
    assert deployed.running() == NEW
    assert deployed.links() == {"current": NEW, "previous": OLD}
    assert deployed.releases() == {OLD, NEW}
    assert sorted(path.name for path in deployed.path.glob("fleet*")) == ["fleet.json"]


@pytest.mark.parametrize("how", ["dying", "silent"])
def test_release_that_does_not_come_up_gives_way_to_the_one_before(
    deployed: Machine, how: str
) -> None:
    (deployed.state / how).write_text(NEW)
    ended = deployed.switch(NEW)
    assert ended.returncode != 0
    assert ended.stderr.splitlines()[-1].endswith(f"release {OLD} runs again")
    assert "its last words" in ended.stdout
    assert deployed.running() == OLD
    assert deployed.links()["current"] == OLD
    assert deployed.fleet.read_text() == "old"


def test_nothing_is_restarted_that_runs_as_it_should(deployed: Machine) -> None:
    before = deployed.restarts()
    assert deployed.switch(OLD).returncode == 0
    assert deployed.restarts() == before
    assert deployed.fleet.read_text() == "new"


def test_edited_unit_is_put_back_and_started_from(deployed: Machine) -> None:
    before = deployed.restarts()
    with deployed.unit_file.open("a") as file:
        file.write("Nice=5\n")
    assert deployed.switch(OLD).returncode == 0
    assert "Nice" not in deployed.unit_file.read_text()
    assert deployed.restarts() == before + 1


def test_interrupted_switch_still_knows_what_to_go_back_to(deployed: Machine) -> None:
    """The unit and the fleet file are the new ones already, and the new release does not come up."""
    (deployed.path / "fleet.json.before").write_text("old")
    deployed.fleet.write_text("new")
    deployed.unit_file.write_text((deployed.root / NEW / UNIT).read_text())
    (deployed.state / "silent").write_text(NEW)
    assert deployed.switch(NEW, "newer").returncode != 0
    assert deployed.running() == OLD
    assert deployed.fleet.read_text() == "old"


def test_rollback_keeps_the_release_that_is_left(deployed: Machine) -> None:
    assert deployed.switch(NEW).returncode == 0
    assert deployed.switch(OLD).returncode == 0
    assert deployed.running() == OLD
    assert deployed.links() == {"current": OLD, "previous": NEW}


def gateway_state(machine: Machine) -> Gateway:
    fact = GatewayState()
    arguments = (str(machine.root), str(machine.unit_file), str(machine.fleet), "http://x")
    return fact.process(sh(fact.command(*arguments), machine.tools).stdout.splitlines())


def test_state_of_an_empty_host(machine: Machine) -> None:
    assert gateway_state(machine) == Gateway()


def test_state_names_complete_releases_only(deployed: Machine) -> None:
    (deployed.root / "half").mkdir()
    (deployed.root / "python3.0").mkdir()
    (deployed.root / "python3.0" / ".complete").write_text("/usr/bin/python3.0\n")
    found = gateway_state(deployed)
    assert found.installed == (OLD, NEW)
    assert found.current == OLD
    assert found.is_live


def test_state_says_mode_owner_and_checksum_of_files(deployed: Machine) -> None:
    deployed.fleet.chmod(0o640)
    found = gateway_state(deployed).fleet
    assert found is not None
    mode, _, _, checksum = found.split()
    assert mode == "640"
    assert len(checksum) == 64


@dataclass(frozen=True)
class CaddyHost:
    path: Path

    def state(self, **changes: str) -> Caddy:
        fact = CaddyState()
        arguments = {
            "caddyfile": str(self.path / "Caddyfile"),
            "socket": str(self.path / "socket"),
            "authority": str(self.path / "root.crt"),
            "hostname": "jarvis.home.arpa",
            "port": 443,
            "address": "127.0.0.1",
            "files": (str(self.path / "a.pem"),),
            **changes,
        }
        return fact.process(sh(fact.command(**arguments), self.path / "tools").stdout.splitlines())


@pytest.fixture
def caddy_host(tmp_path: Path) -> CaddyHost:
    tools = tmp_path / "tools"
    tools.mkdir()
    tool(tools, "curl", "printf 000; exit 7")
    tool(tools, "caddy", "")
    tool(tools, "dpkg-query", f"echo ' {tmp_path}/Caddyfile '$(echo shipped | md5sum)")
    (tmp_path / "a.pem").touch()
    return CaddyHost(tmp_path)


def test_caddy_without_a_configuration(caddy_host: CaddyHost) -> None:
    assert caddy_host.state() == Caddy()


@pytest.mark.parametrize(
    ("content", "is_foreign"),
    [
        ("shipped\n", False),
        ("# Made by jarvis-ops from the inventory; changes here are replaced.\n{\n}\n", False),
        ("# mine\nexample.com {\n}\n", True),
        ("", True),
    ],
)
def test_configuration_of_somebody_else_is_told_from_ours_and_the_packages(
    caddy_host: CaddyHost, content: str, is_foreign: bool
) -> None:
    path = caddy_host.path / "Caddyfile"
    path.write_text(content)
    assert caddy_host.state().foreign == (str(path) if is_foreign else None)


def test_files_that_are_not_there_are_named(caddy_host: CaddyHost) -> None:
    (caddy_host.path / "a.pem").unlink()
    assert caddy_host.state().missing == (str(caddy_host.path / "a.pem"),)


def test_certificate_comes_whole(caddy_host: CaddyHost) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nAb+/=\n-----END CERTIFICATE-----\n"
    (caddy_host.path / "root.crt").write_text(pem)
    assert caddy_host.state().authority == pem


def test_check_runs_in_the_sandbox_of_the_unit(tmp_path: Path) -> None:
    """What the unit says of its sandbox is passed on, and nothing that would start the service."""
    tools = tmp_path / "tools"
    tools.mkdir()
    tool(tools, "systemd-run", f'for word in "$@"; do echo "$word"; done >{tmp_path}/words')
    (tmp_path / NEW).mkdir()
    (tmp_path / NEW / UNIT).write_text(gateway.release().unit)
    ended = sh(script("gateway-check.sh", [str(tmp_path), NEW, UNIT, "/fleet", "9"]), tools)
    assert ended.returncode == 0, ended.stderr
    words = (tmp_path / "words").read_text().splitlines()
    properties = {words[index + 1] for index, word in enumerate(words) if word == "--property"}
    assert {
        "User=jarvis",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=",
        "SystemCallFilter=~@privileged @resources",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
        "RuntimeMaxSec=9",
    } <= properties
    names = {item.split("=")[0] for item in properties}
    assert not names & {"ExecStart", "ExecStartPre", "Restart", "WantedBy", "Environment"}
    assert words[-4:] == ["litellm_plugins.gateway", "--fleet", "/fleet", "--check"]


def test_fleet_that_is_refused_is_removed_and_the_reason_is_the_last_line(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    tool(tools, "systemd-run", "echo first >&2; echo 'keys.x: wrong' >&2; exit 1")
    (tmp_path / NEW).mkdir()
    (tmp_path / NEW / UNIT).touch()
    candidate = tmp_path / "candidate"
    candidate.touch()
    ended = sh(script("gateway-check.sh", [str(tmp_path), NEW, UNIT, str(candidate), "9"]), tools)
    assert ended.returncode != 0
    assert ended.stderr.splitlines()[:2] == ["first", "keys.x: wrong"]
    assert ended.stderr.splitlines()[-1].endswith("what runs is left alone: keys.x: wrong")
    assert not candidate.exists()
