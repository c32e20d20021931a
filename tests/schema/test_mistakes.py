"""Every mistake in an inventory is one sentence that names the key."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from litellm_plugins.schema import FleetError, load_fleet

if TYPE_CHECKING:
    from collections.abc import Callable

HEX = "0" * 64

GOOD: dict[str, Any] = {
    "ollama": {"version": "0.34.2"},
    "gateway": {"tls": {"mode": "internal"}},
    "nodes": {
        "big": {
            "address": "10.0.0.1",
            "hardware": {"gpu": "nvidia", "memory_gib": 64, "vram_gib": 24},
            "models": ["llama3"],
        },
        "brain": {"address": "10.0.0.2", "roles": ["gateway"]},
    },
    "groups": {"gpu": {"nodes": ["big"], "models": ["mistral"]}},
    "models": {"llama3": {"category": "general"}},
    "keys": {"alice": {"sha256": HEX}},
}


def node(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda fleet: fleet["nodes"]["big"].update(changes)


def top(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda fleet: fleet.update(changes)


def without_gateway(fleet: dict[str, Any]) -> None:
    del fleet["nodes"]["brain"]


def without_inference(fleet: dict[str, Any]) -> None:
    del fleet["nodes"]["big"]
    fleet.update(groups={}, models={})


def second_gateway(fleet: dict[str, Any]) -> None:
    fleet["nodes"]["big"]["roles"] = ["inference", "gateway"]


MISTAKES = {
    "unknown key of a node": (
        node(adress="10.0.0.9"),
        "nodes.big.adress: unknown key; did you mean 'address'?",
    ),
    "unknown key at the top": (top(keyz={}), "keyz: unknown key; did you mean 'keys'?"),
    "unknown key deep down": (
        node(hardware={"gpus": "nvidia"}),
        "nodes.big.hardware.gpus: unknown key; did you mean 'gpu'?",
    ),
    "unknown key like no other": (top(zzz=1), "zzz: unknown key"),
    "wrong type: text for a list": (
        node(models="llama3"),
        "nodes.big.models: must be a list (it is 'llama3')",
    ),
    "wrong type: a list for a mapping": (top(nodes=[]), "nodes: must be a mapping"),
    "wrong type: text for a number": (
        node(hardware={"memory_gib": "lots"}),
        (
            "nodes.big.hardware.memory_gib: should be a valid number, unable to parse string as a "
            "number (it is 'lots')"
        ),
    ),
    "not an address": (
        node(address="10.0.0.256"),
        "nodes.big.address: is not a valid IPv4 address (it is '10.0.0.256')",
    ),
    "no address": (
        lambda fleet: fleet["nodes"]["big"].pop("address"),
        "nodes.big.address: is missing and has no default",
    ),
    "no version": (top(ollama={}), "ollama.version: is missing and has no default"),
    "version with a v": (
        top(ollama={"version": "v0.34.2"}),
        "ollama.version: must be a version such as '0.34.2', without the 'v' (it is 'v0.34.2')",
    ),
    "no gateway": (
        without_gateway,
        "nodes: no node has the role 'gateway'; give it to one of them",
    ),
    "two gateways": (
        second_gateway,
        "nodes: more than one node has the role 'gateway': big, brain",
    ),
    "no inference node": (
        without_inference,
        "nodes: no node has the role 'inference'; give it to one of them",
    ),
    "two nodes with one address": (
        node(address="10.0.0.2"),
        "nodes.brain.address: 10.0.0.2 is the address of node 'big' already",
    ),
    "loopback among several": (
        node(address="127.0.0.1"),
        (
            "nodes.big.address: 127.0.0.1 is this machine's own loopback; in a fleet of several nodes "
            "the others cannot reach it"
        ),
    ),
    "model without nodes": (
        top(models={"llama4": {}}),
        (
            "models.llama4:latest: no node has it; add it to a node's or a group's models; "
            "did you mean 'llama3:latest'?"
        ),
    ),
    "unknown node in a group": (
        top(groups={"gpu": {"nodes": ["bigg"], "models": ["mistral"]}}),
        "groups.gpu.nodes: unknown node 'bigg'; did you mean 'big'?",
    ),
    "group with a node that cannot have models": (
        top(groups={"gpu": {"nodes": ["brain"], "models": ["mistral"]}}),
        "groups.gpu.nodes: 'brain' has no role 'inference', and the group declares models",
    ),
    "group named like a role": (
        top(groups={"gateway": {"nodes": ["big"]}}),
        "groups.gateway: the name is taken by a node or by pyinfra; choose another",
    ),
    "models on a node without inference": (
        lambda fleet: fleet["nodes"]["brain"].update(models=["llama3"]),
        "nodes.brain: models are declared, but the node has no role 'inference'",
    ),
    "model named twice": (
        node(models=["llama3", "ollama/llama3:latest"]),
        "nodes.big.models: named twice: llama3:latest",
    ),
    "checksum too short": (
        top(ollama={"version": "0.34.2", "sha256": {"ollama-linux-amd64.tar.zst": "abc"}}),
        (
            "ollama.sha256.ollama-linux-amd64.tar.zst: must be a sha256 of 64 hex digits, in lower "
            "case (it is 'abc')"
        ),
    ),
    "checksum of something else": (
        top(ollama={"version": "0.34.2", "sha256": {"ollama-windows.zip": HEX}}),
        (
            "ollama: sha256: 'ollama-windows.zip' is not the name of an archive of Ollama for Linux, "
            "e.g. 'ollama-linux-amd64.tar.zst'"
        ),
    ),
    "key that is no hash": (
        top(keys={"alice": {"sha256": "jrv_secret"}}),
        "keys.alice.sha256: must be a sha256 of 64 hex digits, in lower case",
    ),
    "node name with capitals": (
        lambda fleet: fleet["nodes"].update({"Big_One": {"address": "10.0.0.7"}}),
        (
            "nodes.Big_One: must be lower-case letters, digits and hyphens, at most 63 "
            "(it is 'Big_One')"
        ),
    ),
    "GPU without memory": (
        node(hardware={"gpu": "nvidia"}),
        "nodes.big.hardware: gpu is 'nvidia', so vram_gib must be greater than 0",
    ),
    "memory without GPU": (
        node(hardware={"vram_gib": 8}),
        "nodes.big.hardware: vram_gib is set, so gpu must say which kind it is",
    ),
    "certificate files not named": (
        top(gateway={"tls": {"mode": "files"}}),
        "gateway.tls: mode is 'files', so certificate and key must both be set",
    ),
    "certificate files without the mode": (
        top(gateway={"tls": {"certificate": "/etc/c.pem"}}),
        "gateway.tls: certificate and key are for mode 'files', and mode is 'internal'",
    ),
    "role named twice": (
        node(roles=["inference", "inference"]),
        "nodes.big: roles: named twice: inference",
    ),
    "environment that has a key of its own": (
        node(ollama={"environment": {"OLLAMA_NUM_PARALLEL": "9"}}),
        "nodes.big.ollama: environment: OLLAMA_NUM_PARALLEL has a key of its own: `num_parallel`",
    ),
    "environment that would open the node": (
        node(ollama={"environment": {"OLLAMA_NO_CLOUD": "0"}}),
        (
            "nodes.big.ollama: environment: OLLAMA_NO_CLOUD stays set, so that no prompt leaves the "
            "network"
        ),
    ),
}


@pytest.mark.parametrize(("change", "sentence"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_is_one_sentence_with_its_key(
    change: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    fleet = deepcopy(GOOD)
    change(fleet)
    with pytest.raises(FleetError) as raised:
        load_fleet(fleet)
    assert raised.value.lines == [sentence]


def test_the_fleet_that_the_mistakes_are_made_in_is_good() -> None:
    assert load_fleet(GOOD).models_of("big") == ("mistral:latest", "llama3:latest")


def test_all_mistakes_are_told_at_once() -> None:
    fleet = deepcopy(GOOD)
    node(adress="x", models="y")(fleet)
    top(keyz={})(fleet)
    with pytest.raises(FleetError) as raised:
        load_fleet(fleet)
    assert len(raised.value.lines) == 3


def test_a_key_is_never_repeated_in_its_error() -> None:
    fleet = deepcopy(GOOD)
    fleet["keys"]["alice"]["sha256"] = "jrv_secret"
    with pytest.raises(FleetError) as raised:
        load_fleet(fleet)
    assert "jrv_secret" not in str(raised.value)
