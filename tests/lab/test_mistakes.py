"""What stands in the way of a deploy is one sentence, and nothing is changed on the host."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest
from control import Control, changes, snapshot

from lab.laboratory import Machine
from lab.overlay import combine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from lab.host import Host
    from lab.internet import Request
    from lab.overlay import Overlay

NODE, ADDRESS = "empty", "10.20.0.13"

WITH_NODE: dict[str, Any] = {"nodes": {NODE: {"address": ADDRESS, "models": ["llama3.2:3b"]}}}

_ARCHIVE = "ollama-linux-amd64.tar.zst"


@pytest.fixture(scope="module")
def host(control: Control) -> Host:
    """A machine on which nothing was ever deployed."""
    return control.lab.add_host(NODE, Machine(address=IPv4Address(ADDRESS)))


def on_host(*, do: str, undo: str) -> Callable[[Control], AbstractContextManager[None]]:
    """Make something so on the host with a script, and undo it with another."""

    @contextmanager
    def condition(control: Control) -> Iterator[None]:
        control.shell(NODE, do)
        try:
            yield
        finally:
            control.shell(NODE, undo)

    return condition


def instead_of(program: str, output: str) -> Callable[[Control], AbstractContextManager[None]]:
    """Let a program on the host say something else."""
    path = f"/usr/local/bin/{program}"
    return on_host(
        do=f"printf '#!/bin/sh\\necho {output}\\n' >{path}; chmod +x {path}", undo=f"rm {path}"
    )


@contextmanager
def without_sudo(control: Control) -> Iterator[None]:
    allowed = control.lab.hosts[NODE].root / "etc/sudoers.d/lab"
    away = allowed.rename(allowed.parents[1] / "sudoers-away")
    try:
        yield
    finally:
        away.rename(allowed)


@contextmanager
def cut_off(control: Control) -> Iterator[None]:
    address = control.lab.hosts[NODE].address
    control.lab.network.partition(address)
    try:
        yield
    finally:
        control.lab.network.heal(address)


@contextmanager
def another_host_key(control: Control) -> Iterator[None]:
    host = control.lab.hosts[NODE]
    host.power_off()
    for file in control.lab.login.change_host_key(NODE):
        host.write(file)
    host.boot()
    try:
        yield
    finally:
        control.lab.login.write({name: host.address for name, host in control.lab.hosts.items()})


def no_condition(control: Control) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Mistake:
    """What is wrong, with the inventory or with the host, and what has to be said of it."""

    sentence: str
    over: Overlay = field(default_factory=dict)
    condition: Callable[[Control], AbstractContextManager[None]] = no_condition


MISTAKES = {
    "a checksum that is not the release's": Mistake(
        f"ollama.sha256.{_ARCHIVE}: the inventory says {'0' * 64}, but the release's",
        over={"ollama": {"sha256": {_ARCHIVE: "0" * 64}}},
    ),
    "a version that was never released": Mistake(
        "ollama.version: there is no release 9.9.9",
        over={"ollama": {"version": "9.9.9", "sha256": None}},
    ),
    "a model that the registry does not have": Mistake(
        "model 'no-such-model:latest' is declared for this node, and https://registry.ollama.ai "
        "does not have it",
        over={"nodes": {NODE: {"models": ["no-such-model"]}}},
    ),
    "a digest that is not the model's": Mistake(
        f"models.llama3.2:3b.digest: the inventory expects {'0' * 64}, but the registry has",
        over={"models": {"llama3.2:3b": {"digest": "0" * 64}}},
    ),
    "too little disk for the release": Mistake(
        "too little disk for /opt/ollama",
        condition=on_host(do="mount -t tmpfs -o size=64k tmpfs /opt", undo="umount /opt"),
    ),
    "too little disk for the models": Mistake(
        "too little disk for /srv/models",
        over={"nodes": {NODE: {"ollama": {"models_path": "/srv/models"}}}},
        condition=on_host(do="mount -t tmpfs -o size=64k tmpfs /srv", undo="umount /srv"),
    ),
    "an operating system that is not supported": Mistake(
        "the operating system is Slackware 15.0, and supported are Debian",
        condition=on_host(
            do="printf 'ID=slackware\\nVERSION_ID=15.0\\nPRETTY_NAME=\"Slackware 15.0\"\\n' >/run/os\n"
            "mount --bind /run/os /etc/os-release",
            undo="umount /etc/os-release",
        ),
    ),
    "an architecture that is not supported": Mistake(
        "the architecture is riscv64, and supported are amd64 and arm64",
        condition=instead_of("dpkg", "riscv64"),
    ),
    "an address that is another's": Mistake(
        "address is 10.20.0.99, which this machine does not have",
        over={"nodes": {NODE: {"address": "10.20.0.99", "ssh_host": ADDRESS}}},
    ),
    "Ollama's port in use": Mistake(
        "port 11434 is held by 'python3'",
        condition=on_host(
            do="systemd-run --quiet --unit=squatter python3 -m http.server 11434\n"
            "timeout 10 bash -c 'until : 2>/dev/null >/dev/tcp/127.0.0.1/11434; do sleep 0.1; done'",
            undo="systemctl stop squatter.service",
        ),
    ),
    "a user who may not use sudo": Mistake("sudo", condition=without_sudo),
    "a host that does not answer": Mistake("Could not connect", condition=cut_off),
    "a host with another key than before": Mistake("host key", condition=another_host_key),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_sentence_and_changes_nothing(
    control: Control, host: Host, mistake: Mistake
) -> None:
    with mistake.condition(control):
        before = snapshot(host)
        asked = len(control.lab.internet.requests())
        run = control.run("-y", "--limit", NODE, over=combine(WITH_NODE, mistake.over))
        after = snapshot(host)
    assert run.status == 1
    assert mistake.sentence in run.reason(NODE)
    assert "Traceback" not in run.stderr
    assert changes(before, after) == set()
    assert not [
        item for item in control.lab.internet.requests()[asked:] if is_download(control, item)
    ]


def is_download(control: Control, request: Request) -> bool:
    """Whether an archive was fetched; to learn its size, a host may begin to."""
    supply = control.lab.state.supply
    archive = supply.releases / f"v{supply.version}" / _ARCHIVE
    return request.path.endswith(_ARCHIVE) and (request.sent or 0) >= archive.stat().st_size


def test_a_limit_that_matches_nothing_is_said_before_anything_is_connected_to(
    control: Control,
) -> None:
    run = control.run("-y", "--limit", "slwo")
    assert run.status == 1
    assert "--limit slwo: no host or group has this name; did you mean 'slow'?" in run.stderr
    assert "Connecting" not in run.stderr


def test_without_the_mistakes_the_host_is_deployed(control: Control, host: Host) -> None:
    before = snapshot(host)
    control.deploy("--limit", NODE, over=WITH_NODE)
    assert "opt/ollama/current" in changes(before, snapshot(host))
