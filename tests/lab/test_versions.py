"""The version in the inventory is what runs: upwards, downwards, and never a wrong one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lab.internet import Fault

if TYPE_CHECKING:
    from control import Control

    from lab.overlay import Overlay

NODE = "slow"


@pytest.fixture(scope="module", autouse=True)
def first_version(control: Control) -> None:
    """The node runs the first of two versions."""
    control.deploy("--limit", NODE)


def versions(control: Control) -> tuple[str, str]:
    """Return the version that the fleet runs and a later one that can be had."""
    first, second, *_ = control.lab.state.supply.sha256
    return first, second


def to(control: Control, version: str) -> Overlay:
    return {"ollama": {"version": version, "sha256": control.lab.state.supply.sha256[version]}}


def served(control: Control) -> str:
    address = control.lab.hosts[NODE].address
    answer = control.shell(NODE, f"curl -fsS http://{address}:11434/api/version")
    version: str = json.loads(answer)["version"]
    return version


def live(control: Control) -> str:
    return control.shell(NODE, "readlink /opt/ollama/current")


def process(control: Control) -> str:
    return control.shell(NODE, "systemctl show --property MainPID --value ollama.service")


def downloads(control: Control) -> int:
    requests = control.lab.internet.requests()
    return sum(item.method == "GET" and item.path.endswith(".tar.zst") for item in requests)


def test_a_wrong_archive_is_never_live(control: Control) -> None:
    first, second = versions(control)
    before = process(control)
    with control.lab.internet.faults(Fault(path=f"*v{second}/ollama-linux-*", corrupt=True)):
        run = control.run("-y", "--limit", NODE, over=to(control, second))
    assert run.status != 0
    assert "sha256" in run.reason(NODE)
    assert (live(control), served(control), process(control)) == (first, first, before)
    assert not (control.lab.hosts[NODE].root / "opt/ollama" / second).exists()


def test_upgrade_and_rollback(control: Control) -> None:
    first, second = versions(control)
    control.deploy("--limit", NODE, over=to(control, second))
    assert (live(control), served(control)) == (second, second)

    before = downloads(control)
    control.deploy("--limit", NODE, over=to(control, first))
    assert (live(control), served(control)) == (first, first)
    assert downloads(control) == before
