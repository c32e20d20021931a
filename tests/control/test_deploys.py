"""Whole deploys on hosts that answer from a script: what is done, in which order, and what is not."""

from __future__ import annotations

import base64
import hashlib

import pytest
from fake_fleet import (
    FLEET,
    MANIFEST,
    FakeHost,
    deploy_on,
    released,
    running,
    stored,
    web_answers,
)

from jarvis_ops import ollama, report
from jarvis_ops.facts.accounts import AccountStates
from jarvis_ops.facts.firewall import FirewallState
from jarvis_ops.facts.machine import Listeners, MachineState
from jarvis_ops.facts.managed import DirectoryStates, FileStates
from jarvis_ops.facts.ollama import ModelStores, ReleaseStates, ServerVersion
from jarvis_ops.facts.packages import InstalledPackages
from jarvis_ops.facts.units import UnitStates
from litellm_plugins.schema import load_fleet

ARCHIVES = ("ollama-linux-amd64.tar.zst", "ollama-linux-amd64-rocm.tar.zst")


@pytest.fixture(autouse=True)
def no_reasons_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_reasons", {})


def empty(name: str) -> FakeHost:
    """A host that was only just installed."""
    facts = (
        *(AccountStates, DirectoryStates, FileStates, FirewallState, InstalledPackages),
        *(ModelStores, ReleaseStates, ServerVersion, UnitStates),
    )
    machine = ["os=debian", "version=12", "architecture=amd64", "systemd=yes"]
    changed: dict[type, list[str]] = {fact: [] for fact in facts}
    archives = ARCHIVES[: 2 if name == "big" else 1]
    return FakeHost(name, {MachineState: machine, **changed}, web_answers(*archives, models=1))


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def position(commands: list[str], *words: str) -> int:
    """Where the first command with all these words is."""
    return next(index for index, text in enumerate(commands) if all(word in text for word in words))


@pytest.mark.parametrize("plan_first", [True, False])
@pytest.mark.parametrize("name", ["big", "small", "store"])
def test_unchanged_host_is_asked_once_and_left_alone(name: str, plan_first: bool) -> None:
    run = deploy_on(FakeHost(name), plan_first=plan_first)
    assert run.count(name) == 1
    assert run.changed(name) == []
    assert not run.failed


def test_empty_host_gets_everything_in_order() -> None:
    run = deploy_on(empty("big"))
    assert not run.failed
    commands = run.commands("big")
    steps = [
        position(commands, "apt-get", "nftables"),
        position(commands, "nft -c -f"),
        position(commands, "systemctl reload-or-restart jarvis-firewall.service"),
        position(commands, "useradd", "ollama"),
        position(commands, "install -d", ollama.HOME),
        position(commands, "install-release.sh ROOT"),
        position(commands, "ln -sfn 1.0.0"),
        position(commands, "mv -f", ollama.UNIT_FILE),
        position(commands, "systemctl restart ollama.service"),
        position(commands, "wait-ready.sh URL"),
        position(commands, "pull-model.sh URL"),
    ]
    assert steps == sorted(steps)


def test_host_that_cannot_ask_the_web_yet_asks_before_the_download() -> None:
    commands = deploy_on(empty("big")).commands("big")
    asked = [index for index, text in enumerate(commands) if "replies.sh METHOD" in text]
    # The first time is for the plan, when there is nothing on the host to ask with.
    assert position(commands, "apt-get", "zstd") < asked[-1]
    assert asked[-1] < position(commands, "install-release.sh ROOT")


def test_empty_storage_node_gets_its_user_and_directory() -> None:
    run = deploy_on(empty("store"))
    commands = run.commands("store")
    user = position(commands, "useradd", "jarvis-store")
    directory = position(commands, "install -d -m 750 -o jarvis-store", "/srv/jarvis/models")
    assert user < directory
    assert not any("ollama" in name.lower() for name in run.changed("store"))


def test_upgrade_installs_switches_restarts_and_waits() -> None:
    fleet = load_fleet(FLEET)
    before = ollama.marker(fleet.nodes["big"], fleet.ollama)
    host = FakeHost(
        "big",
        {
            ReleaseStates: released(fleet, "big", "1.0.0", "2.0.0"),
            ServerVersion: ['{"version":"1.0.0"}'],
            UnitStates: running("ollama.service", before),
            FileStates: [],
        },
    )
    run = deploy_on(host, ollama={**FLEET["ollama"], "version": "2.0.0"})
    commands = run.commands("big")
    steps = [
        position(commands, "ln -sfn 1.0.0", "previous"),
        position(commands, "ln -sfn 2.0.0", "current"),
        position(commands, "systemctl restart ollama.service"),
        position(commands, "wait-ready.sh URL"),
    ]
    assert steps == sorted(steps)
    assert not any("install-release.sh ROOT" in text for text in commands)


def test_new_model_is_pulled_without_restart() -> None:
    run = deploy_on(
        FakeHost("small", {ModelStores: stored("mistral:latest")}, web_answers(models=1))
    )
    assert run.failed == set()
    assert run.changed("small") == ["Ollama | The models are pulled"]


def test_model_of_another_digest_is_pulled_again() -> None:
    digest = hashlib.sha256(MANIFEST).hexdigest()
    older = [
        line.replace(base64_of(MANIFEST), base64_of(MANIFEST + b" "))
        for line in stored("llama3:latest")
    ]
    host = FakeHost("small", {ModelStores: older}, web_answers(models=1))
    run = deploy_on(host, models={"llama3": {"digest": digest}})
    assert run.changed("small") == ["Ollama | The models are pulled"]


def test_restart_that_an_earlier_run_did_not_come_to_is_made_up_for() -> None:
    host = FakeHost("small", {UnitStates: running("ollama.service", "older")})
    run = deploy_on(host)
    assert "Ollama | It runs as its unit says" in run.changed("small")
    assert any("systemctl restart ollama.service" in text for text in run.commands("small"))


def test_changed_rules_are_reloaded_and_nothing_restarted() -> None:
    nodes = {**FLEET["nodes"], "brain": {"address": "10.0.0.99", "roles": ["gateway"]}}
    fleet_before = load_fleet(FLEET)
    host = FakeHost("small", {FirewallState: ["file=old", "untouched=yes"], FileStates: []})
    run = deploy_on(host, nodes=nodes)
    commands = run.commands("small")
    assert position(commands, "nft -c -f") < position(commands, "reload-or-restart jarvis-firewall")
    assert not any("systemctl restart ollama" in text for text in commands)
    assert str(fleet_before.nodes["brain"].address) not in "".join(commands)


def machine(**changes: str | None) -> dict[type, list[str]]:
    found = {"os": "debian", "version": "12", "architecture": "amd64", "systemd": "yes", **changes}
    return {MachineState: [f"{key}={value}" for key, value in found.items() if value is not None]}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            machine(version="11", name="Debian 11"),
            "the operating system is Debian 11, and supported are",
        ),
        (
            machine(os="ubuntu", version="24.04", architecture="riscv64"),
            "the architecture is riscv64",
        ),
        (
            machine(systemd=None),
            "systemd does not run here",
        ),
        (
            machine(address="10.9.9.9"),
            "nodes.big.address is 10.0.0.1, which this machine does not have (it has 10.9.9.9)",
        ),
        (
            machine(architecture="arm64"),
            "nodes.big.hardware.gpu is 'strix-halo', and Ollama has no ROCm for arm64",
        ),
        (
            {Listeners: ["11434 77 nginx -"]},
            "port 11434 is held by 'nginx' (pid 77), and ollama.service needs it",
        ),
    ],
)
@pytest.mark.parametrize("plan_first", [True, False])
def test_unfit_host_fails_with_a_sentence_and_the_others_go_on(
    changed: dict[type, list[str]], reason: str, plan_first: bool
) -> None:
    unfit = FakeHost("big", changed)
    run = deploy_on(unfit, empty("small"), plan_first=plan_first)
    assert run.failed == {"big"}
    assert reason in report._reasons["@fake/big"]
    assert report._reasons["@fake/big"].endswith("nothing was changed")
    assert run.count("big") == 1
    assert run.changed("small")


def test_host_without_sudo_fails_with_a_sentence() -> None:
    run = deploy_on(FakeHost("big", refuses_sudo=True), FakeHost("small"))
    assert run.failed == {"big"}
    assert "sudo does not work without a password" in report._reasons["@fake/big"]
    assert run.count("big") == 1


def test_own_service_on_the_port_is_no_stranger() -> None:
    run = deploy_on(FakeHost("big", {Listeners: ["11434 77 ollama ollama.service"]}))
    assert not run.failed
