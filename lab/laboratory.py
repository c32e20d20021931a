"""A lab: the hosts of an inventory, booted on this machine, with a network and a bit of internet.

A lab can be interrupted at any point, by SIGKILL too. So nothing of it has to be remembered to be
removed: every namespace, mount, control group and process of it is found again by the lab's id.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from lab import authority, fleet, image, kernel, machine, overlay, simulated_gpu
from lab.host import File, Host, cut_power, end_supervisors
from lab.image import Suite
from lab.internet import Internet, names_for
from lab.network import INTERNET_ADDRESS, NAMESERVER, Network, Plan, plan
from lab.ssh import Login
from lab.supply import Supply, find_supply
from lab.system import LabError, locked, remove_tree, replace_text, run
from litellm_plugins.auth import key_hash
from litellm_plugins.keys import new_key
from litellm_plugins.schema import Fleet, Gpu, Hardware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from lab.overlay import Overlay

__all__ = [
    "CACHE",
    "REPOSITORY",
    "TIME_SCALE",
    "Lab",
    "Machine",
    "State",
    "simulated_hardware",
]

REPOSITORY = Path(__file__).resolve().parents[1]

CACHE = Path(os.environ.get("JARVIS_LAB_DIRECTORY", REPOSITORY / ".cache" / "lab"))
"""Where labs are kept, and what they have in common. Hosts write to it through an overlay, which the
file system must allow: an overlay itself does not."""

TIME_SCALE = 0.05
"""By how much the simulated hardware is faster than the hardware that it stands for, unless told."""

_HTTPS = 443
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,19}")
_TAKEN = {"authority", "images", "loopback", "releases"}


class Machine(BaseModel):
    """What a host is made of."""

    model_config = ConfigDict(frozen=True)

    address: IPv4Address
    hardware: Hardware = Hardware()
    suite: Suite = Suite.BOOKWORM


class State(BaseModel):
    """A lab that is up, as it is written down for other processes. `key` opens the endpoint."""

    model_config = ConfigDict(frozen=True)

    inventory: Path
    fleet: Fleet
    supply: Supply
    key: str
    time_scale: float
    machines: dict[str, Machine]
    images: dict[Suite, Path]

    @property
    def plan(self) -> Plan:
        """The addresses that the lab added to those of the fleet."""
        return plan(overlay.address_of(node) for node in self.fleet.nodes.values())

    @property
    def url(self) -> str:
        """The endpoint's address for commands in the LAN, where it is not on localhost."""
        gateway = self.fleet.gateway
        name, _ = self.fleet.gateway_node
        is_local = f".{gateway.hostname}".endswith(".localhost")
        host = str(self.machines[name].address) if is_local else gateway.hostname
        return f"https://{host}" if gateway.port == _HTTPS else f"https://{host}:{gateway.port}"


class Lab:
    """One lab, by its name. Several can be up at a time, even with the same addresses."""

    def __init__(self, name: str = "demo") -> None:
        if not _NAME.fullmatch(name) or name in _TAKEN:
            raise LabError(
                f"{name!r} is no name for a lab: use a-z, 0-9 and hyphens, 20 at most, "
                f"and none of {', '.join(sorted(_TAKEN))}"
            )
        self.name = name
        self.directory = CACHE / name
        place = hashlib.sha256(str(self.directory).encode()).hexdigest()[:6]
        self.id = f"jarvis-{name}-{place}"
        self.network = Network(self.id)
        self._runtime = kernel.RUNTIME / self.id
        self._state_file = self.directory / "lab.json"

    @property
    def overlay(self) -> Path:
        """The overlay that makes the inventory run on this lab."""
        return self.directory / "overlay.yaml"

    @property
    def ca_file(self) -> Path:
        """Where a deploy writes the certificate of the gateway's authority."""
        return self.directory / "gateway-ca.crt"

    @cached_property
    def login(self) -> Login:
        """How the hosts are logged into."""
        return Login(self.directory / "ssh", self._runtime)

    @cached_property
    def internet(self) -> Internet:
        """The simulated part of the internet, whose behaviour can be changed."""
        return Internet(self.directory / "internet", self.network.internet)

    @property
    def state(self) -> State:
        """What is up.

        Raises:
            LabError: where the lab is not up, or was interrupted on its way.

        """
        try:
            return State.model_validate_json(self._state_file.read_text())
        except FileNotFoundError:
            raise LabError(f"the lab {self.name!r} is not up") from None
        except ValidationError:
            raise LabError(f"the lab {self.name!r} is of another version; take it down") from None

    @property
    def hosts(self) -> dict[str, Host]:
        """The hosts by name, those of the inventory first and in its order."""
        state = self.state
        return {name: self._host(name, state) for name in state.machines}

    @property
    def is_up(self) -> bool:
        """Whether it is there as it was made, with every host switched on."""
        return (
            self._state_file.exists()
            and self.internet.is_running
            and all(host.is_running for host in self.hosts.values())
        )

    @property
    def environment(self) -> dict[str, str]:
        """Variables for commands that are to work on this lab."""
        state = self.state
        return {
            "JARVIS_LAB": self.name,
            "JARVIS_INVENTORY": str(state.inventory),
            "JARVIS_FLEET_OVERLAY": str(self.overlay),
            "JARVIS_SSH_CONFIG": str(self.login.config),
            "JARVIS_CA_FILE": str(self.ca_file),
            "JARVIS_KEY": state.key,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def command(self, *command: str, namespace: str | None = None) -> list[str]:
        """Return a command line that runs a command in the LAN, or in another of the namespaces."""
        return ["ip", "netns", "exec", namespace or self.network.lan, *command]

    def up(
        self,
        inventory: Path = REPOSITORY / "inventory.py",
        *,
        time_scale: float = TIME_SCALE,
        say: Callable[[str], None] = print,
    ) -> None:
        """Boot the hosts of an inventory, in place of whatever there is of this lab.

        `time_scale` multiplies the time that simulated models take.

        Raises:
            LabError: where the machine or the inventory does not allow it; nothing is left then.

        """
        machine.prepare()
        _check_file_system()
        # What the user has written is read first: a mistake in it costs no lab that is up.
        declared = fleet.read(inventory)
        users = _users_overlay()
        with self._locked():
            self._remove()
            try:
                state = self._make(inventory, declared, time_scale, say)
                self._write_overlay(users, state)
                self._publish(state)
            except BaseException:
                self._remove()
                raise

    def down(self) -> None:
        """Remove the lab, whatever state it is in. Only what labs have in common stays.

        Raises:
            LabError: where this is not the user or the machine that can do it.

        """
        reason = machine.why_not()
        if reason:
            raise LabError(reason)
        with self._locked():
            self._remove()

    def add_host(self, name: str, added: Machine) -> Host:
        """Boot one more host, for a node that the inventory is to get later."""
        state = self.state
        machines = {**state.machines, name: added}
        images = {**state.images, **_images([added.suite])}
        state = state.model_copy(update={"machines": machines, "images": images})
        host = self._provision(name, state)
        host.boot()
        self._publish(state)
        return host

    def _make(
        self, inventory: Path, declared: Fleet, time_scale: float, say: Callable[[str], None]
    ) -> State:
        self.directory.mkdir(parents=True)
        self._runtime.mkdir(parents=True)
        kernel.borrow(self.id, kernel.MANY_HOSTS)
        machines = {
            name: Machine(
                address=overlay.address_of(node),
                hardware=node.hardware,
                suite=fleet.suite_of(name, declared),
            )
            for name, node in declared.nodes.items()
        }
        supply = find_supply(declared, self.internet.directory, CACHE / "releases")
        state = State(
            inventory=inventory.resolve(),
            fleet=declared,
            supply=supply,
            key=new_key(),
            time_scale=time_scale,
            machines=machines,
            images=_images(item.suite for item in machines.values()),
        )
        say(f"Booting {len(machines)} hosts: {', '.join(machines)}")
        self.network.create(state.plan, _names(state))
        self.internet.start(supply, declared, CACHE / "authority")
        _boot([self._provision(name, state) for name in machines])
        return state

    def _provision(self, name: str, state: State) -> Host:
        """Give a host its place in the network and its disk."""
        host = self._host(name, state)
        described = state.machines[name]
        self.network.attach(host.namespace, host.address, state.plan)
        host.install(
            [
                *_files(name, state),
                *self.login.prepare(name),
                *simulated_gpu.files(described.hardware),
            ],
            simulated_gpu.links(described.hardware),
        )
        return host

    def _host(self, name: str, state: State) -> Host:
        described = state.machines[name]
        key = hashlib.sha256(name.encode()).hexdigest()[:8]
        return Host(
            name=name,
            address=described.address,
            image=state.images[described.suite],
            directory=self.directory / "hosts" / name,
            runtime=self._runtime,
            namespace=self.network.host(name),
            machine=f"{self.id}.{key}",
        )

    def _write_overlay(self, users: Overlay, state: State) -> None:
        for_lab = overlay.for_lab(
            state.fleet,
            version=state.supply.version,
            sha256=state.supply.sha256[state.supply.version],
            key_sha256=key_hash(state.key),
        )
        overlay.write(self.overlay, overlay.combine(users, for_lab))

    def _publish(self, state: State) -> None:
        """Let others find the hosts: by their keys and names, and the lab by its state."""
        self.login.write({name: item.address for name, item in state.machines.items()})
        self.network.write_names(_names(state))
        replace_text(self._state_file, state.model_dump_json(indent=1), mode=0o600)

    def _remove(self) -> None:
        # First the mark that it is up, so that nobody takes the rest of it for a lab.
        self._state_file.unlink(missing_ok=True)
        cut_power(self.network.namespaces())
        end_supervisors(self.id)
        self.network.destroy()
        kernel.give_back(self.id)
        for directory in (self.directory, self._runtime):
            remove_tree(directory)

    def _locked(self) -> AbstractContextManager[None]:
        return locked(CACHE / f"{self.name}.lock")


def _check_file_system() -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    if run("stat", "--file-system", "--format=%T", str(CACHE)).strip() == "overlayfs":
        raise LabError(
            f"{CACHE} is on an overlay, as in a container, and hosts cannot have their disks there; "
            "name a directory on another file system in JARVIS_LAB_DIRECTORY"
        )


def _boot(hosts: Iterable[Host]) -> None:
    """Switch hosts on, all at a time.

    Raises:
        LabError: of the first that does not come up, once all have had their time.

    """
    with ThreadPoolExecutor() as pool:
        booting = [pool.submit(host.boot) for host in hosts]
    for future in booting:
        future.result()


def _users_overlay() -> Overlay:
    path = os.environ.get(fleet.OVERLAY_VARIABLE)
    return overlay.read(Path(path)) if path else {}


def _images(suites: Iterable[Suite]) -> dict[Suite, Path]:
    return image.build(suites, CACHE / "images", authority.certificate(CACHE / "authority"))


def _names(state: State) -> dict[str, IPv4Address]:
    """Return the names that the control side knows: those of the hosts and of the endpoint."""
    names = {name: item.address for name, item in state.machines.items()}
    gateway, _ = state.fleet.gateway_node
    return {**names, state.fleet.gateway.hostname: names[gateway]}


def _files(name: str, state: State) -> list[File]:
    described = state.machines[name]
    hosts = ["127.0.0.1 localhost", f"127.0.1.1 {name}"]
    hosts += [f"{INTERNET_ADDRESS} {other}" for other in names_for(state.fleet, state.supply)]
    simulated = simulated_hardware(described.hardware, state.time_scale)
    return [
        File("/etc/hostname", f"{name}\n"),
        File("/etc/hosts", "\n".join([*hosts, ""])),
        File("/etc/machine-id", f"{uuid.uuid4().hex}\n", 0o444),
        File("/etc/resolv.conf", f"nameserver {NAMESERVER}\n"),
        File("/etc/simulated-hardware.json", json.dumps(simulated)),
    ]


def simulated_hardware(hardware: Hardware, time_scale: float) -> dict[str, object]:
    """Return what a simulated Ollama is told of the machine that it pretends to run on."""
    has_gpu = hardware.gpu is not Gpu.NONE
    return {
        "profile": hardware.gpu.value if has_gpu else "cpu",
        "memory_gib": hardware.vram_gib if has_gpu else hardware.memory_gib,
        "time_scale": time_scale,
    }
