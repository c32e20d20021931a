"""Inference nodes run the declared Ollama, tuned, confined, and open to the gateway only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from firewall import declared_rules, live_rules
from machines import (
    Machine,
    Reach,
    Target,
    control_machine,
    gateway_machine,
    machines,
    owns,
    reach,
    usable,
)

from litellm_plugins.schema import Fleet, Node, Role
from litellm_plugins.tuning import OLLAMA_PORT, tuning_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from testinfra.host import Host

ROLE = Role.INFERENCE

_SANDBOX = {
    "User": "ollama",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "PrivateTmp": "yes",
    "ProtectProc": "invisible",
    "DevicePolicy": "closed",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "CapabilityBoundingSet": "",
    # Anything else would hide the GPU.
    "PrivateDevices": "no",
}


def ollama(host: Host, node: Node, path: str, body: str = "") -> dict[str, Any]:
    """Ask Ollama from its own machine, with a POST if there is a body."""
    url = f"http://{node.address}:{OLLAMA_PORT}{path}"
    data = "--data %s " if body else ""
    arguments = [body, url] if body else [url]
    answer = host.check_output(f"curl -fsS --max-time 600 {data}%s", *arguments)
    parsed: dict[str, Any] = json.loads(answer)
    return parsed


def digests(host: Host, node: Node) -> dict[str, str]:
    """Return the digest of each model that Ollama serves, by its name."""
    models = ollama(host, node, "/api/tags")["models"]
    return {item["name"]: item["digest"] for item in models}


def manifest_path(node: Node, model: str) -> str:
    """Return where Ollama keeps the manifest of a model."""
    name, _, tag = model.rpartition(":")
    parts = name.split("/")
    host = parts.pop(0) if len(parts) > 2 else "registry.ollama.ai"
    namespace = parts.pop(0) if len(parts) > 1 else "library"
    return f"{tuning_of(node).models_path}/manifests/{host}/{namespace}/{parts[0]}/{tag}"


def effective_environment(host: Host) -> dict[str, str]:
    """Return the environment of the running service, from the kernel."""
    pid = host.check_output("systemctl show --property MainPID --value ollama.service")
    variables = host.check_output("cat /proc/%s/environ", pid).split("\0")
    return dict(item.split("=", 1) for item in variables if item)


def test_the_declared_version_is_installed(host: Host, fleet: Fleet) -> None:
    version = fleet.ollama.version
    binary = host.check_output("readlink -f /usr/local/bin/ollama")
    assert host.check_output("readlink /opt/ollama/current") == version
    assert host.check_output("readlink /usr/local/bin/ollama") == "/opt/ollama/current/bin/ollama"
    assert binary == f"/opt/ollama/{version}/bin/ollama"


def test_the_installed_version_is_what_serves(host: Host, node: Node, fleet: Fleet) -> None:
    assert ollama(host, node, "/api/version") == {"version": fleet.ollama.version}


def test_nothing_half_done_is_left(host: Host) -> None:
    installed = host.check_output(
        "find /opt/ollama -mindepth 1 -maxdepth 1 -type d -not -name '.*'"
    )
    for release in installed.splitlines():
        assert host.file(f"{release}/.jarvis-archives").is_file, f"{release} was not finished"
    assert host.check_output("find /opt/ollama/.incoming -mindepth 1 -not -name lock") == ""


def test_the_service_runs_and_comes_back_after_a_reboot(host: Host) -> None:
    service = host.service("ollama.service")
    assert service.is_running
    assert service.is_enabled


def test_the_service_is_confined(host: Host) -> None:
    properties = host.service("ollama.service").systemd_properties
    assert {name: properties.get(name, "") for name in _SANDBOX} == _SANDBOX


def test_the_service_is_tuned_as_its_hardware_demands(host: Host, node: Node) -> None:
    tuning = tuning_of(node)
    expected = {
        "OLLAMA_HOST": f"{node.address}:{OLLAMA_PORT}",
        "OLLAMA_MODELS": tuning.models_path,
        "OLLAMA_NUM_PARALLEL": str(tuning.num_parallel),
        "OLLAMA_CONTEXT_LENGTH": str(tuning.context_length),
        "OLLAMA_MAX_LOADED_MODELS": str(tuning.max_loaded_models),
        "OLLAMA_KV_CACHE_TYPE": tuning.kv_cache_type,
        "OLLAMA_KEEP_ALIVE": tuning.keep_alive,
        "OLLAMA_NO_CLOUD": "1",
        "OLLAMA_NOPRUNE": "1",
        "LLAMA_ARG_CACHE_RAM": "0",
        **({"OLLAMA_IGPU_ENABLE": "1"} if tuning.igpu else {}),
        **node.ollama.environment,
    }
    effective = effective_environment(host)
    assert {name: effective.get(name) for name in expected} == expected


def test_a_model_is_there_with_the_digest_of_its_manifest(
    host: Host, node: Node, fleet: Fleet, declared_model: str
) -> None:
    path = manifest_path(node, declared_model)
    on_disk = host.check_output("sha256sum %s", path).split()[0]
    assert digests(host, node)[declared_model] == on_disk
    assert fleet.model(declared_model).digest in {None, on_disk}


def test_a_model_is_there_with_all_its_parts(host: Host, node: Node, declared_model: str) -> None:
    manifest = json.loads(host.check_output("cat %s", manifest_path(node, declared_model)))
    parts = {item["digest"]: item["size"] for item in [manifest["config"], *manifest["layers"]]}
    blobs = {part: part.replace(":", "-") for part in parts}
    folder = f"{tuning_of(node).models_path}/blobs"
    listing = host.check_output("find %s -type f -printf '%%f %%s\\n'", folder)
    sizes = dict(line.split() for line in listing.splitlines())
    assert {part: int(sizes.get(blob, -1)) for part, blob in blobs.items()} == parts


def test_a_model_is_the_same_wherever_it_is(
    host: Host, node: Node, machine: Machine, declared_model: str, fleet: Fleet
) -> None:
    here = digests(host, node)[declared_model]
    elsewhere = {
        other.name: digests(usable(other), other.node)[declared_model]
        for other in machines(ROLE)
        if other != machine and declared_model in fleet.models_of(other.name)
    }
    assert elsewhere == dict.fromkeys(elsewhere, here)


def can_compute_on_gpu(host: Host, node: Node) -> bool:
    """Tell whether a declared GPU is of use: a host of the lab has a simulated one at most.

    The simulated Ollama takes it for a real one, and the real Ollama stays on the CPU.
    """
    is_simulated_gpu = host.file("/etc/simulated-hardware.json").exists
    is_real_ollama = "simulated" not in ollama(host, node, "/api/version")["version"]
    return node.has_gpu and not (is_simulated_gpu and is_real_ollama)


def test_models_compute_where_the_hardware_says(host: Host, node: Node, chat_model: str) -> None:
    body = {"model": chat_model, "stream": False, "options": {"num_predict": 1}}
    ollama(host, node, "/api/generate", json.dumps(body))
    loaded = ollama(host, node, "/api/ps")["models"]
    on_gpu = {item["name"]: item["size_vram"] > 0 for item in loaded}
    assert chat_model in on_gpu
    assert on_gpu == dict.fromkeys(on_gpu, can_compute_on_gpu(host, node))


def test_ollama_listens_on_the_declared_address_only(host: Host, node: Node) -> None:
    listening = host.check_output(f"ss -Hltn 'sport = :{OLLAMA_PORT}'").splitlines()
    assert [line.split()[3] for line in listening] == [f"{node.address}:{OLLAMA_PORT}"]


def ports_of(nodes: Iterable[Machine]) -> list[Target]:
    return [(item.node.address, OLLAMA_PORT) for item in nodes]


def test_the_node_reaches_itself(host: Host, machine: Machine) -> None:
    assert set(reach(host, ports_of([machine])).values()) == {Reach.OPEN}


def test_the_gateway_reaches_every_node(gateway_host: Host) -> None:
    assert set(reach(gateway_host, ports_of(machines(ROLE))).values()) == {Reach.OPEN}


def test_no_other_machine_reaches_a_node(outsider: Machine) -> None:
    others = [item for item in machines(ROLE) if item != outsider]
    assert Reach.OPEN not in reach(usable(outsider), ports_of(others)).values()


def test_the_control_machine_reaches_a_node_only_if_it_is_of_the_fleet() -> None:
    own = {item.node.address for item in machines() if owns(item.node.address)}
    is_gateway = gateway_machine().node.address in own
    expected = {(a, p): is_gateway or a in own for a, p in ports_of(machines(ROLE))}
    found = reach(control_machine(), expected)
    assert {target: item is Reach.OPEN for target, item in found.items()} == expected


def test_the_firewall_in_force_is_the_declared_one_and_comes_back(host: Host) -> None:
    assert live_rules(host) == declared_rules(host)
    assert host.service("jarvis-firewall.service").is_enabled
