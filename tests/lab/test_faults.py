"""Machines fail; the others go on, clients do not notice, and all comes back by itself."""

from __future__ import annotations

import pytest
from control import Control, eventually

GATEWAY, FAST, SLOW = "brain", "fast", "slow"
MODEL = "llama3.2:3b"

_QUICK_TO_GIVE_UP = {"routing": {"first_token_timeout_seconds": 5, "connect_timeout_seconds": 1}}


@pytest.fixture(scope="module", autouse=True)
def serving(control: Control) -> None:
    """The fleet serves."""
    control.deploy(over=_QUICK_TO_GIVE_UP)
    eventually(lambda: control.is_ready)


@pytest.fixture(autouse=True)
def all_well(control: Control) -> None:
    """Every machine is switched on, cabled, and in service."""
    for host in control.lab.hosts.values():
        control.lab.network.heal(host.address)
        if not host.is_running:
            host.boot()
    eventually(lambda: well(control) == {FAST, SLOW})


def nodes(control: Control) -> dict[str, dict[str, object]]:
    answer = control.get("/api/nodes")
    return {item["name"]: item for item in answer.data["nodes"]} if answer.status == 200 else {}


def well(control: Control) -> set[str]:
    return {name for name, node in nodes(control).items() if node["well"]}


def test_a_host_that_is_down_does_not_stop_the_others(control: Control) -> None:
    control.lab.hosts[SLOW].power_off()
    group = {"nodes": {name: {"ollama": {"keep_alive": "7m"}} for name in (FAST, SLOW)}}
    run = control.run("-y", over={**_QUICK_TO_GIVE_UP, **group})
    assert run.status == 1
    assert "1 of 3 hosts failed:" in run.stderr
    assert "Could not connect" in run.reason(SLOW)
    assert "OLLAMA_KEEP_ALIVE=7m" in environment(control, FAST)

    control.lab.hosts[SLOW].boot()
    control.deploy(over={**_QUICK_TO_GIVE_UP, **group})
    assert "OLLAMA_KEEP_ALIVE=7m" in environment(control, SLOW)


def environment(control: Control, host: str) -> list[str]:
    text = control.shell(host, "systemctl show --property Environment --value ollama.service")
    return text.split()


def test_clients_do_not_notice_that_a_node_loses_power(control: Control) -> None:
    asked = [control.start_asking(MODEL, max_tokens=40) for _ in range(2)]
    eventually(lambda: nodes(control)[FAST]["busy"] == 2)
    control.lab.hosts[FAST].power_cut()
    answers = [control.finish(process) for process in asked]
    assert [answer.status for answer in answers] == [200] * 2
    assert {answer.node for answer in answers} == {SLOW}
    assert {answer.headers["x-jarvis-attempts"] for answer in answers} == {"2"}


def test_clients_do_not_notice_that_a_node_is_cut_off(control: Control) -> None:
    asked = [control.start_asking(MODEL, max_tokens=40) for _ in range(2)]
    eventually(lambda: nodes(control)[FAST]["busy"] == 2)
    control.lab.network.partition(control.lab.hosts[FAST].address)
    later = control.ask(MODEL, max_tokens=8)
    answers = [later, *(control.finish(process) for process in asked)]
    assert [answer.status for answer in answers] == [200] * 3
    assert {answer.node for answer in answers} == {SLOW}


def test_a_node_that_comes_back_is_used_again(control: Control) -> None:
    host = control.lab.hosts[FAST]
    host.power_cut()
    eventually(lambda: well(control) == {SLOW})
    host.boot()
    eventually(lambda: control.ask(MODEL, max_tokens=8).node == FAST)


def test_no_slot_is_lost_in_all_this(control: Control) -> None:
    eventually(lambda: [node["busy"] for node in nodes(control).values()] == [0, 0])


def test_the_gateway_comes_back_from_a_power_cut_by_itself(control: Control) -> None:
    gateway = control.lab.hosts[GATEWAY]
    gateway.power_cut()
    gateway.boot()
    eventually(lambda: control.is_ready)
    assert control.ask(MODEL, max_tokens=8).status == 200
