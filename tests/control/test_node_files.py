"""The texts that become files on a node: Ollama's unit and the firewall's rules."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fake_fleet import FLEET

from jarvis_ops import firewall, ollama
from litellm_plugins.schema import Fleet, Gpu, Node, load_fleet

FLEET_OF_FOUR = load_fleet(FLEET)


def node(gpu: str = "none", **changes: Any) -> Node:
    hardware = {"gpu": gpu, "vram_gib": 24} if gpu != "none" else {}
    return Node.model_validate({"address": "10.0.0.1", "hardware": hardware, **changes})


def unit(subject: Node) -> str:
    return ollama.unit_text(subject, FLEET_OF_FOUR.ollama)


@pytest.mark.parametrize("gpu", [item.value for item in Gpu])
def test_sandbox_never_hides_the_gpu(gpu: str) -> None:
    text = unit(node(gpu))
    assert not re.search(r"^PrivateDevices=", text, re.MULTILINE)
    # ProtectClock alone would close the devices: with it the list has to be there.
    assert "DevicePolicy=closed" in text
    assert ("DeviceAllow=" in text) == (gpu != "none")


@pytest.mark.parametrize(
    ("gpu", "device", "module"),
    [
        ("nvidia", "char-nvidia*", "nvidia_uvm"),
        ("amd", "char-kfd", "amdgpu"),
        ("strix-halo", "char-kfd", "amdgpu"),
        ("amd-igpu", "char-drm", "amdgpu"),
        ("intel", "char-drm", "xe"),
    ],
)
def test_driver_is_loaded_before_and_its_devices_are_allowed(
    gpu: str, device: str, module: str
) -> None:
    text = unit(node(gpu))
    assert f"DeviceAllow={device} rw" in text
    assert re.search(rf"^After=.* modprobe@{module}.service", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("gpu", "variable", "value"),
    [
        ("none", "OLLAMA_LLM_LIBRARY", "cpu"),
        ("none", "OLLAMA_IGPU_ENABLE", None),
        ("nvidia", "OLLAMA_LLM_LIBRARY", None),
        ("amd-igpu", "OLLAMA_IGPU_ENABLE", "1"),
        ("strix-halo", "OLLAMA_IGPU_ENABLE", "1"),
        ("strix-halo", "OLLAMA_NO_CLOUD", "1"),
        ("none", "LLAMA_ARG_CACHE_RAM", "0"),
        ("none", "OLLAMA_HOST", "10.0.0.1:11434"),
    ],
)
def test_environment_follows_the_hardware(gpu: str, variable: str, value: str | None) -> None:
    assert ollama.environment(node(gpu)).get(variable) == value


def test_quantised_cache_brings_flash_attention() -> None:
    quantised = node(ollama={"kv_cache_type": "q8_0"})
    assert ollama.environment(quantised)["OLLAMA_FLASH_ATTENTION"] == "1"
    assert "OLLAMA_FLASH_ATTENTION" not in ollama.environment(node())


def test_what_the_inventory_sets_wins() -> None:
    own = node(ollama={"environment": {"LLAMA_ARG_CACHE_RAM": "1024", "OLLAMA_DEBUG": "1"}})
    assert ollama.environment(own)["LLAMA_ARG_CACHE_RAM"] == "1024"
    assert 'Environment="OLLAMA_DEBUG=1"' in unit(own)


def test_percent_signs_are_no_specifiers() -> None:
    own = node(ollama={"environment": {"HTTPS_PROXY": "http://user:p%40ss@proxy:3128"}})
    assert 'Environment="HTTPS_PROXY=http://user:p%%40ss@proxy:3128"' in unit(own)
    assert ollama.proxies(own) == {"HTTPS_PROXY": "http://user:p%40ss@proxy:3128"}


def test_marker_changes_with_all_that_needs_a_restart() -> None:
    release = FLEET_OF_FOUR.ollama
    other_version = release.model_copy(update={"version": "2.0.0"})
    markers = {
        ollama.marker(node(), release),
        ollama.marker(node(), other_version),
        ollama.marker(node("nvidia"), release),
        ollama.marker(node(address="10.0.0.9"), release),
        ollama.marker(node(ollama={"num_parallel": 7}), release),
    }
    assert len(markers) == 5
    assert ollama.marker(node(models=["llama3"]), release) in markers
    repinned = release.model_copy(update={"sha256": {}})
    assert ollama.marker(node(), repinned) in markers


def test_marker_is_in_the_unit() -> None:
    marker = ollama.marker(node(), FLEET_OF_FOUR.ollama)
    assert f'Environment="JARVIS_UNIT={marker}"' in unit(node())


@pytest.mark.parametrize(
    ("path", "setting"),
    [("/srv/models", "yes"), ("/home/me/models", "no"), ("/homework/models", "yes")],
)
def test_store_in_a_home_directory_is_not_hidden(path: str, setting: str) -> None:
    text = unit(node(ollama={"models_path": path}))
    assert f"ProtectHome={setting}\n" in text
    assert f"ReadWritePaths=/var/lib/ollama {path}\n" in text


def test_amd_gpus_get_the_rocm_archive() -> None:
    release = FLEET_OF_FOUR.ollama
    amd = [archive.name for archive in ollama.archives(release, node("amd"), "amd64")]
    assert amd == ["ollama-linux-amd64.tar.zst", "ollama-linux-amd64-rocm.tar.zst"]
    (only,) = ollama.archives(release, node("nvidia"), "arm64")
    assert (only.name, only.sha256) == ("ollama-linux-arm64.tar.zst", None)


# The firewall


def fleet(**nodes: Any) -> Fleet:
    return load_fleet({"ollama": {"version": "1.0.0"}, "nodes": nodes})


BIG = {"address": "10.0.0.10"}
BRAIN = {"address": "10.0.0.2", "roles": ["gateway"]}
STORE = {"address": "10.0.0.3", "roles": ["storage"], "storage": {"port": 9000}}


def chain(rules: str, name: str) -> list[str]:
    """Return the statements of a chain."""
    body = rules.split(f"chain {name} {{\n")[1].split("\t}\n", maxsplit=1)[0]
    return [line.strip() for line in body.splitlines()]


def test_only_the_gateway_reaches_ollama() -> None:
    rules = firewall.rules(fleet(big=BIG, brain=BRAIN, store=STORE), "big")
    assert "tcp dport 11434 jump to_ollama" in chain(rules, "input")
    assert chain(rules, "to_ollama") == [
        'iifname "lo" accept',
        "ct state established,related accept",
        "ip saddr { 10.0.0.2 } accept",
        "drop",
    ]
    assert "chain output" not in rules


def test_gateway_on_the_node_itself_leaves_loopback_only() -> None:
    both = {"address": "10.0.0.10", "roles": ["inference", "gateway"]}
    rules = firewall.rules(fleet(both=both), "both")
    assert "ip saddr" not in rules
    assert "ip daddr" not in rules
    assert chain(rules, "to_ollama")[-1] == "drop"


def test_gateway_sends_to_the_nodes_and_nowhere_else() -> None:
    other = {"address": "10.0.0.9"}
    rules = firewall.rules(fleet(big=BIG, other=other, brain=BRAIN, store=STORE), "brain")
    assert 'meta skuid "jarvis" jump from_gateway' in chain(rules, "output")
    assert chain(rules, "from_gateway") == [
        'oifname "lo" accept',
        "ct state established,related accept",
        "ip daddr { 10.0.0.9, 10.0.0.10 } tcp dport 11434 accept",
        "reject with icmpx type admin-prohibited",
    ]
    assert chain(rules, "to_gateway") == [
        'iifname "lo" accept',
        "ct state established,related accept",
        "drop",
    ]


def test_only_the_fleet_reaches_the_store() -> None:
    rules = firewall.rules(fleet(big=BIG, brain=BRAIN, store=STORE), "store")
    assert "tcp dport 9000 jump to_storage" in chain(rules, "input")
    assert "ip saddr { 10.0.0.2, 10.0.0.10 } accept" in chain(rules, "to_storage")


@pytest.mark.parametrize("name", ["big", "brain", "store"])
def test_rules_touch_no_other_table_and_decide_nothing_else(name: str) -> None:
    rules = firewall.rules(fleet(big=BIG, brain=BRAIN, store=STORE), name)
    statements = [line for line in rules.splitlines() if not line.strip().startswith("#")]
    tables = [line for line in statements if "table" in line or "flush" in line]
    assert tables == ["table inet jarvis", "delete table inet jarvis", "table inet jarvis {"]
    hooks = [line for line in statements if "hook" in line]
    assert hooks
    assert all("policy accept;" in line for line in hooks)
    ports = {line.split()[2] for line in chain(rules, "input") if "dport" in line}
    assert "22" not in ports
