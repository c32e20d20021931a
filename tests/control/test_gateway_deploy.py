"""The gateway's deploy on hosts that answer from a script: what is done, in which order, what not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fake_fleet import FLEET, FakeHost, deploy_on, deployed, served

from jarvis_ops import gateway, report
from jarvis_ops.facts.accounts import AccountStates
from jarvis_ops.facts.firewall import FirewallState
from jarvis_ops.facts.gateway import CaddyState, GatewayState
from jarvis_ops.facts.machine import Listeners, Spaces
from jarvis_ops.facts.managed import DirectoryStates, FileStates
from jarvis_ops.facts.packages import InstalledPackages
from jarvis_ops.facts.units import UnitStates
from litellm_plugins.schema import Fleet, load_fleet

if TYPE_CHECKING:
    from pathlib import Path

PEM = "the authority's certificate"


@pytest.fixture(autouse=True)
def no_reasons_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_reasons", {})


@pytest.fixture(autouse=True)
def ca_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The authority's certificate on the control machine, as an earlier run has put it there."""
    path = tmp_path / "control" / "ca.crt"
    path.parent.mkdir()
    path.write_text(f"{PEM}\n")
    monkeypatch.setenv("JARVIS_CA_FILE", str(path))
    return path


def fleet(**changes: Any) -> Fleet:
    return load_fleet({**FLEET, **changes})


def empty_host() -> FakeHost:
    """A gateway that was only just installed."""
    facts = (
        *(AccountStates, DirectoryStates, FileStates, FirewallState, InstalledPackages),
        *(UnitStates, GatewayState, CaddyState),
    )
    return FakeHost("brain", {fact: [] for fact in facts})


def position(commands: list[str], *words: str) -> int:
    """Where the first command with all these words is."""
    return next(index for index, text in enumerate(commands) if all(word in text for word in words))


def ran(commands: list[str], script: str) -> bool:
    """Return whether a script of ours was run, known by its line of usage."""
    return any(f"Usage: {script}" in command for command in commands)


def reason(name: str = "brain") -> str:
    return report._reasons[f"@fake/{name}"]


@pytest.mark.parametrize("plan_first", [True, False])
def test_unchanged_gateway_is_asked_once_and_left_alone(plan_first: bool) -> None:
    run = deploy_on(FakeHost("brain"), plan_first=plan_first)
    assert run.count("brain") == 1
    assert run.changed("brain") == []
    assert not run.failed


def test_empty_gateway_gets_everything_in_order() -> None:
    run = deploy_on(empty_host())
    assert not run.failed
    commands = run.commands("brain")
    steps = [
        position(commands, "useradd", "jarvis"),
        position(commands, "reload-or-restart", "jarvis-firewall.service"),
        position(commands, "apt-get", "install", "caddy", "python3-venv"),
        position(commands, "install -d", "/opt/jarvis/.incoming"),
        position(commands, "Usage: gateway-install.sh"),
        position(commands, "Usage: gateway-check.sh"),
        position(commands, "Usage: gateway-switch.sh"),
        position(commands, "Usage: caddy-validate.sh"),
        position(commands, "mv -f", gateway.CADDYFILE),
        position(commands, "systemctl restart", gateway.CADDY_UNIT),
        position(commands, "Usage: caddy-reload.sh"),
        position(commands, "Usage: caddy-authority.sh"),
    ]
    assert steps == sorted(steps)


def test_another_fleet_is_taken_up_without_a_restart_of_anything() -> None:
    before = fleet()
    nodes = {**FLEET["nodes"], "new": {"address": "10.0.0.9"}}
    run = deploy_on(FakeHost("brain", {GatewayState: deployed(before)}), nodes=nodes)
    assert not run.failed
    assert "Gateway | The fleet file is as declared" in run.changed("brain")
    commands = run.commands("brain")
    assert position(commands, "Usage: gateway-check.sh") < position(
        commands, f"mv -f {gateway.FLEET_FILE}.candidate {gateway.FLEET_FILE}"
    )
    assert not ran(commands, "gateway-switch.sh")
    assert not any("systemctl restart" in command for command in commands)


def test_another_release_is_installed_and_checked_before_the_switch() -> None:
    before = {GatewayState: deployed(fleet(), "aaaaaaaaaaaa")}
    run = deploy_on(FakeHost("brain", before))
    assert run.changed("brain") == [
        "Gateway | The release is installed",
        "Gateway | The release runs and answers",
    ]
    commands = run.commands("brain")
    steps = [
        position(commands, f"Usage: {script}")
        for script in ("gateway-install.sh", "gateway-check.sh", "gateway-switch.sh")
    ]
    assert steps == sorted(steps)


def test_release_that_is_still_there_is_not_installed_again() -> None:
    answers = [*deployed(fleet(), "aaaaaaaaaaaa"), f"complete={gateway.release().id}"]
    run = deploy_on(FakeHost("brain", {GatewayState: answers}))
    assert run.changed("brain") == ["Gateway | The release runs and answers"]
    assert not ran(run.commands("brain"), "gateway-install.sh")


def test_gateway_that_does_not_answer_is_started() -> None:
    silent = [line for line in deployed(fleet()) if line != "live=yes"]
    run = deploy_on(FakeHost("brain", {GatewayState: silent}))
    assert run.changed("brain") == ["Gateway | The release runs and answers"]


def test_another_configuration_of_caddy_is_loaded_without_a_restart() -> None:
    stale = ["loaded=aaaaaaaaaaaaaaaa", "status=200", f"authority={PEM}"]
    run = deploy_on(FakeHost("brain", {CaddyState: stale}))
    assert run.changed("brain") == ["Gateway | The endpoint answers as configured"]
    commands = run.commands("brain")
    assert ran(commands, "caddy-reload.sh")
    assert not any("systemctl restart" in command for command in commands)


def test_lost_certificate_of_the_authority_is_fetched_again(ca_file: Path) -> None:
    ca_file.unlink()
    run = deploy_on(FakeHost("brain"))
    assert run.changed("brain") == ["Gateway | The authority's certificate is on this machine"]


def test_certificate_of_ones_own_needs_no_authority(ca_file: Path) -> None:
    ca_file.unlink()
    tls = {"mode": "files", "certificate": "/etc/ssl/a.pem", "key": "/etc/ssl/a.key"}
    run = deploy_on(FakeHost("brain"), gateway={"tls": tls})
    assert run.changed("brain") == []
    assert not ca_file.exists()


@pytest.mark.parametrize(
    ("fact", "lines", "sentence"),
    [
        (CaddyState, ["unavailable=caddy"], "no package of Caddy for this system"),
        (CaddyState, ["foreign=/etc/caddy/Caddyfile"], "/etc/caddy/Caddyfile is somebody's own"),
        (CaddyState, ["missing=/etc/ssl/a.pem"], "there is no file /etc/ssl/a.pem"),
        (Listeners, ["443 17 nginx nginx.service"], "port 443 is held by 'nginx'"),
        (Listeners, ["80 18 apache2 -"], "port 80 is held by 'apache2'"),
        (Listeners, ["4000 19 node -"], "port 4000 is held by 'node'"),
    ],
)
def test_what_stands_in_the_way_is_said_and_nothing_changed(
    fact: type, lines: list[str], sentence: str
) -> None:
    run = deploy_on(FakeHost("brain", {fact: lines}))
    assert run.failed == {"brain"}
    assert run.count("brain") == 1
    assert sentence in reason()
    assert reason().endswith("nothing was changed")


def test_too_small_a_disk_is_said_before_anything_is_installed() -> None:
    small = {Spaces: ["/opt/jarvis 1 900000000"], GatewayState: []}
    run = deploy_on(FakeHost("brain", small))
    assert run.failed == {"brain"}
    assert "/opt/jarvis has 0.9 GB of free disk" in reason()


def test_small_disk_is_enough_for_what_is_installed() -> None:
    run = deploy_on(FakeHost("brain", {Spaces: ["/opt/jarvis 1 900000000"]}))
    assert not run.failed


def test_port_of_ones_choice_leaves_the_usual_ones_alone() -> None:
    other = {Listeners: ["8443 20 caddy caddy.service"]}
    run = deploy_on(FakeHost("brain", other), gateway={"port": 8443})
    assert not run.failed
    assert gateway.ports(fleet(gateway={"port": 8443})) == {
        4000: gateway.UNIT,
        8443: gateway.CADDY_UNIT,
    }


def test_fleet_of_one_machine_is_gateway_and_node_at_once() -> None:
    nodes = {"only": {"address": "127.0.0.1", "roles": ["inference", "gateway"]}}
    run = deploy_on(FakeHost("only"), nodes=nodes, groups={}, models={})
    assert run.count("only") == 1
    assert run.changed("only") == []
    assert not run.failed


def test_served_says_what_caddy_has_loaded() -> None:
    """The fake host's answers follow the configuration, or nothing here would notice a change."""
    assert served(fleet()) != served(fleet(gateway={"hostname": "other.example.com"}))
