"""A fleet in service is changed, and its clients notice nothing but the change."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest
from control import Control, eventually

from lab.laboratory import Machine
from lab.ssh import USER
from litellm_plugins.auth import key_hash
from litellm_plugins.keys import new_key
from litellm_plugins.names import canonical_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GATEWAY, FAST, SLOW, NEW = "brain", "fast", "slow", "extra"
MODEL = "llama3.2:3b"
ADDRESS = "10.20.0.12"

WITH_NEW: dict[str, Any] = {
    "nodes": {NEW: {"address": ADDRESS}},
    "groups": {"all-nodes": {"nodes": [FAST, SLOW, NEW]}},
}


@pytest.fixture(scope="module", autouse=True)
def serving(control: Control) -> None:
    """The fleet serves."""
    control.deploy()
    eventually(lambda: control.is_ready)


@pytest.fixture(autouse=True)
def one_process(control: Control, serving: None) -> Iterator[None]:
    """Whatever a test changes, the gateway is still the process that it was."""
    before = gateway_process(control)
    yield
    assert gateway_process(control) == before


def gateway_process(control: Control) -> str:
    return control.shell(
        GATEWAY, "systemctl show --property MainPID --value jarvis-gateway.service"
    )


def node_names(control: Control) -> set[str]:
    return {item["name"] for item in control.get("/api/nodes").data["nodes"]}


def chats(control: Control, host: str) -> int:
    """Return how many chats a node has been asked for, by its own log."""
    log = control.shell(host, "journalctl --no-pager --output cat --unit ollama.service")
    return log.count('"/v1/chat/completions"')


def is_whole(received: Path) -> bool:
    """Tell whether a stream has come to its own end: a small real model may be that fast."""
    return received.read_bytes().rstrip().endswith(b"data: [DONE]")


def test_a_new_node_comes_into_service_and_a_running_stream_goes_on(
    control: Control, tmp_path: Path
) -> None:
    control.lab.add_host(NEW, Machine(address=IPv4Address(ADDRESS)))
    received = tmp_path / "stream"
    stream = control.start_streaming(MODEL, received)
    try:
        eventually(lambda: received.exists() and b"data:" in received.read_bytes())
        control.deploy(over=WITH_NEW)
        eventually(lambda: control.ask(MODEL, node=NEW, max_tokens=4).status == 200)
        assert node_names(control) == {FAST, SLOW, NEW}
        so_far = len(received.read_bytes())
        eventually(lambda: len(received.read_bytes()) > so_far or is_whole(received))
        assert stream.poll() is None or is_whole(received)
    finally:
        stream.kill()
        stream.wait()
    assert '"error"' not in received.read_text()


def test_a_removed_node_gets_no_more_requests(control: Control) -> None:
    control.deploy()
    eventually(lambda: node_names(control) == {FAST, SLOW})
    before = chats(control, NEW)
    assert control.ask(MODEL, node=NEW, max_tokens=4).status == 404
    asked = [control.start_asking(MODEL, max_tokens=4) for _ in range(8)]
    assert {control.finish(process).node for process in asked} <= {FAST, SLOW}
    assert chats(control, NEW) == before


def test_a_model_that_is_pulled_by_hand_is_usable(control: Control) -> None:
    declared = control.lab.state.fleet.models_of(SLOW)
    library = control.lab.state.supply.store / "manifests/registry.ollama.ai/library"
    models = (f"{path.parent.name}:{path.name}" for path in sorted(library.glob("*/*")))
    model = next(model for model in models if "embed" not in model and model not in declared)
    assert control.ask(model, max_tokens=4).status == 404

    control.shell(SLOW, f"su - {USER} -c 'ollama pull {model}'")
    eventually(lambda: model in models_offered(control), seconds=10)
    answer = control.ask(model, max_tokens=4)
    assert (answer.status, answer.node) == (200, SLOW)


def models_offered(control: Control) -> set[str]:
    listed = control.get("/v1/models").data["data"]
    return {canonical_model(item["id"]) for item in listed}


def test_keys_are_changed_without_a_restart(control: Control) -> None:
    key = new_key()
    control.deploy(
        "--limit", GATEWAY, over={"keys": {"lab": None, "new": {"sha256": key_hash(key)}}}
    )
    eventually(lambda: control.get("/v1/models", key=key).status == 200)
    assert control.get("/v1/models").status == 401

    control.deploy("--limit", GATEWAY)
    eventually(lambda: control.get("/v1/models").status == 200)
    assert control.get("/v1/models", key=key).status == 401
