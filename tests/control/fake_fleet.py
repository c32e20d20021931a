"""Hosts that answer from a script, and the deploy of this project run on them."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyinfra.api import Config, Inventory, State
from pyinfra.api.connect import connect_all
from pyinfra.api.operations import run_ops
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_host, ctx_state

from jarvis_ops import firewall, gateway, ollama
from jarvis_ops.deploys import common, inference, preflight, storage
from jarvis_ops.deploys import gateway as gateway_deploy
from jarvis_ops.facts import snapshot
from jarvis_ops.facts.accounts import AccountStates
from jarvis_ops.facts.firewall import FirewallState
from jarvis_ops.facts.gateway import CaddyState, GatewayState
from jarvis_ops.facts.gpu import GpuStates
from jarvis_ops.facts.machine import Listeners, MachineState, Spaces
from jarvis_ops.facts.managed import DirectoryStates, FileStates
from jarvis_ops.facts.ollama import ModelStores, ReleaseStates, ServerVersion
from jarvis_ops.facts.packages import InstalledPackages
from jarvis_ops.facts.units import UnitStates
from jarvis_ops.text import script
from litellm_plugins.schema import Fleet, Node, Role, load_fleet

if TYPE_CHECKING:
    from collections.abc import Callable

    from jarvis_ops.facts.snapshot import Question

HEX = "0" * 64

FLEET: dict[str, Any] = {
    "ollama": {
        "version": "1.0.0",
        "sha256": {"ollama-linux-amd64.tar.zst": HEX, "ollama-linux-amd64-rocm.tar.zst": HEX},
    },
    "nodes": {
        "big": {
            "address": "10.0.0.1",
            "hardware": {"gpu": "strix-halo", "memory_gib": 128, "vram_gib": 96},
            "models": ["llama3"],
        },
        "small": {"address": "10.0.0.2", "models": ["llama3"]},
        "brain": {"address": "10.0.0.3", "roles": ["gateway"]},
        "store": {"address": "10.0.0.4", "roles": ["storage"]},
    },
}

_CONFIG = {"digest": f"sha256:{'c' * 64}", "size": 1}
MANIFEST = json.dumps({"config": _CONFIG, "layers": []}).encode()


@dataclass
class FakeHost:
    """What a host answers, at any time: by default that it is all that the fleet declares of it.

    `changed` replaces the lines that a fact prints. `web` are the lines that it prints when it
    asks the web, see `web_answers`.
    """

    name: str
    changed: dict[type, list[str]] = field(default_factory=dict)
    web: list[str] = field(default_factory=list)
    refuses_sudo: bool = False

    @property
    def key(self) -> str:
        return f"@fake/{self.name}"

    def answers(self, fleet: Fleet) -> dict[Question[Any], list[str]]:
        return {
            asked: _converged(asked, fleet, self.name)
            if asked.fact not in self.changed
            else self.changed[asked.fact]
            for asked in preflight._questions(fleet, self.name)
        }

    def data(self, fleet: Fleet) -> dict[str, Any]:
        answers = self.answers(fleet)
        gathered = [line for lines in answers.values() for line in (snapshot._MARK, *lines)]
        refusal = {"stdout": [snapshot._NO_SUDO], "stderr": ["sudo: a password is required"]}
        return {
            "node_name": self.name,
            "fleet": fleet.model_dump(mode="json"),
            "_sudo": True,
            "fake_delay": 0,
            "fake_delay_jitter": 0,
            "fake_responses": {
                snapshot._MARK: refusal if self.refuses_sudo else gathered,
                script("replies.sh"): self.web,
                **{asked.command: lines for asked, lines in answers.items()},
            },
        }


def web_answers(*archives: str, models: int = 0) -> list[str]:
    """Return what a host prints that is told the right checksums of archives, and of models."""
    sums = "".join(f"{HEX}  ./{name}\n" for name in archives)
    head = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    texts = [f"{head}{sums}"] if archives else []
    texts += [head] * len(archives)
    texts += [head + MANIFEST.decode()] * models
    return [base64.b64encode(text.encode()).decode() for text in texts]


def _converged(asked: Question[Any], fleet: Fleet, name: str) -> list[str]:
    return _ANSWERS[asked.fact](dict(asked.arguments), fleet, name, fleet.nodes[name])


def _directory_lines(arguments: dict[str, Any], fleet: Fleet, name: str, node: Node) -> list[str]:
    wanted = {item.path: item for item in _directories(fleet, name)}
    found = [(path, wanted[path]) for path in arguments["paths"]]
    return [f"{item.mode} {item.user} {item.group} {path}" for path, item in found]


def _file_lines(arguments: dict[str, Any], fleet: Fleet, name: str, node: Node) -> list[str]:
    wanted = {item.path: item.state for item in _files(fleet, name)}
    found = [(path, wanted[path]) for path in arguments["paths"]]
    return [f"{item.mode} {item.user} {item.group} {item.sha256} {path}" for path, item in found]


_ANSWERS: dict[type, Callable[[dict[str, Any], Fleet, str, Node], list[str]]] = {
    AccountStates: lambda arguments, *_: [f"user {user} {user}" for user in arguments["users"]],
    CaddyState: lambda _, fleet, *rest: served(fleet),
    DirectoryStates: _directory_lines,
    FileStates: _file_lines,
    FirewallState: lambda _, fleet, name, node: [
        f"file={firewall.rules_sha256(fleet, name)}",
        "untouched=yes",
    ],
    GatewayState: lambda _, fleet, *rest: deployed(fleet),
    GpuStates: lambda *_: [],
    InstalledPackages: lambda arguments, *_: [f"{name} installed" for name in arguments["names"]],
    Listeners: lambda *_: [],
    MachineState: lambda _, fleet, name, node: [
        *("os=debian", "version=12", "architecture=amd64", "systemd=yes", "can_fetch=yes"),
        f"address={node.address}",
    ],
    ModelStores: lambda _, fleet, name, node: stored(*fleet.models_of(name)),
    ReleaseStates: lambda _, fleet, name, node: released(fleet, name, fleet.ollama.version),
    ServerVersion: lambda _, fleet, *rest: [json.dumps({"version": fleet.ollama.version})],
    Spaces: lambda arguments, *_: [f"{path} 1 {10**12}" for path in arguments["paths"]],
    UnitStates: lambda arguments, fleet, name, node: running(
        arguments["names"][0], _marker(arguments["names"][0], fleet, node)
    ),
}


def _marker(unit: str, fleet: Fleet, node: Node) -> str:
    if unit == gateway.UNIT:
        return gateway.release().id
    if unit == gateway.CADDY_UNIT:
        return gateway.caddy_marker()
    return ollama.marker(node, fleet.ollama)


def deployed(fleet: Fleet, release: str | None = None) -> list[str]:
    """Return what is printed where a release of the gateway runs: this checkout's, or another."""
    identity = release or gateway.release().id
    unit = hashlib.sha256(gateway.release().unit.encode()).hexdigest()
    file = hashlib.sha256(fleet.model_dump_json().encode()).hexdigest()
    return [
        f"current={identity}",
        f"complete={identity}",
        f"unit=644 root root {unit if release is None else HEX}",
        f"fleet=640 root jarvis {file}",
        "live=yes",
    ]


def served(fleet: Fleet, authority: str = "the authority's certificate") -> list[str]:
    """Return what is printed where Caddy serves what the fleet declares."""
    return [f"loaded={gateway.caddyfile_marker(fleet)}", "status=200", f"authority={authority}"]


def running(unit: str, marker: str) -> list[str]:
    return [
        f"unit={unit}",
        "LoadState=loaded",
        "ActiveState=active",
        "UnitFileState=enabled",
        "NeedDaemonReload=no",
        f"JARVIS_UNIT={marker}",
    ]


def released(fleet: Fleet, name: str, *versions: str) -> list[str]:
    """Return what is printed where these versions are installed and the first is the live one."""
    archives = ollama.archives(fleet.ollama, fleet.nodes[name], "amd64")
    lines = [f"command={ollama.CURRENT}/bin/ollama", f"current={versions[0]}"]
    for version in versions:
        lines.append(f"release={version}")
        lines.extend(f"archive={HEX} {archive.name}" for archive in archives)
    return lines


def stored(*models: str) -> list[str]:
    encoded = base64.b64encode(MANIFEST).decode()
    paths = [f"registry.ollama.ai/library/{model.replace(':', '/')}" for model in models]
    return [f"blob sha256-{'c' * 64} 1", *(f"manifest {path} {encoded}" for path in paths)]


def _directories(fleet: Fleet, name: str) -> list[Any]:
    node = fleet.nodes[name]
    return [
        *common._DIRECTORIES,
        *inference._directories(node),
        *storage._directories(node),
        *gateway_deploy._DIRECTORIES,
    ]


def _files(fleet: Fleet, name: str) -> list[Any]:
    return [
        *common._files(fleet, name),
        *inference._files(fleet, name),
        *gateway_deploy._caddy_files(fleet),
    ]


@dataclass(frozen=True)
class Run:
    """What a run of the deploy did."""

    state: State
    hosts: dict[str, Any]

    def commands(self, name: str) -> list[str]:
        """The commands on a host, in their order, without the gathering of facts at first."""
        commands: list[str] = self.hosts[name].connector.executed_commands
        return [command for command in commands if snapshot._MARK not in command]

    def count(self, name: str) -> int:
        """How many commands were run on a host in all."""
        return len(self.hosts[name].connector.executed_commands)

    def changed(self, name: str) -> list[str]:
        """The names of the operations that changed a host, in their order."""
        done = self.state.ops[self.hosts[name]]
        return [
            ", ".join(self.state.get_op_meta(key).names)
            for key in self.state.get_op_order()
            if key in done and done[key].operation_meta.did_change()
        ]

    @property
    def failed(self) -> set[str]:
        return {host.name.removeprefix("@fake/") for host in self.state.failed_hosts}


def deploy_on(*fakes: FakeHost, plan_first: bool = True, **changes: Any) -> Run:
    """Run the deploy on fake hosts of `FLEET`, with these parts of it replaced."""
    fleet = load_fleet({**FLEET, **changes})
    inventory = Inventory(([(fake.key, fake.data(fleet)) for fake in fakes], {}))
    state = State(inventory=inventory, config=Config(), check_for_changes=plan_first)
    hosts = {fake.name: inventory.get_host(fake.key) for fake in fakes}
    with ExitStack() as stack:
        stack.enter_context(ctx_state.use(state))
        state.set_stage(StateStage.Connect)
        connect_all(state)
        state.set_stage(StateStage.Prepare)
        for name, host in hosts.items():
            with ctx_host.use(host):
                _deploy(set(fleet.nodes[name].roles))
        state.set_stage(StateStage.Execute)
        run_ops(state)
    return Run(state, hosts)


def _deploy(roles: set[Role]) -> None:
    if not preflight.is_ready():
        return
    common.common()
    if Role.STORAGE in roles:
        storage.storage()
    if Role.INFERENCE in roles:
        inference.inference()
    if Role.GATEWAY in roles:
        gateway_deploy.gateway()
