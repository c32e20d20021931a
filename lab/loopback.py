"""A fleet without hosts: the real gateway over simulated nodes, all on this machine's loopback.

It is for machines that cannot boot hosts: no deploy runs, and nothing is encrypted.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from jarvis_ops.ollama import environment
from lab import fleet, overlay
from lab.laboratory import CACHE, REPOSITORY, TIME_SCALE, simulated_hardware
from lab.model_store import build_store
from lab.system import LabError, Process, end, locked, replace_text
from litellm_plugins.auth import key_hash
from litellm_plugins.keys import new_key
from litellm_plugins.schema import Fleet, Role, load_fleet
from litellm_plugins.tuning import OLLAMA_PORT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from litellm_plugins.schema import Node

__all__ = ["Loopback"]

_FIRST_ADDRESS = IPv4Address("127.0.0.11")
_PORT = 4000


@dataclass(frozen=True)
class Loopback:
    """The fleet of one name; its processes live until `down`."""

    name: str

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return CACHE / f"{self.name}-loopback"

    @property
    def exists(self) -> bool:
        """Whether something of it is there."""
        return self.directory.exists()

    @property
    def key(self) -> str:
        """The key of its endpoint."""
        return (self.directory / "key").read_text()

    @property
    def url(self) -> str:
        """The address of its endpoint."""
        return (self.directory / "url").read_text()

    def up(self, inventory: Path) -> Fleet:
        """Start the gateway and the inference nodes of an inventory, in place of what there is.

        Returns the fleet as it runs here.

        Raises:
            LabError: where this machine has no addresses for it, or a process does not start.

        """
        declared = fleet.read(inventory)
        key = new_key()
        moved = _moved(declared, key)
        with locked(CACHE / f"{self.name}.lock"):
            self._end()
            _check_addresses(moved)
            self.directory.mkdir(parents=True)
            try:
                self._start(moved, key)
            except BaseException:
                self._end()
                raise
        return moved

    def down(self) -> None:
        """End it and remove its files."""
        with locked(CACHE / f"{self.name}.lock"):
            self._end()

    def _start(self, moved: Fleet, key: str) -> None:
        for name, node in moved.nodes_with(Role.INFERENCE).items():
            self._start_node(name, node, moved)
        file = self.directory / "fleet.json"
        replace_text(file, moved.model_dump_json(), mode=0o600)
        port = str(_free_port())
        gateway = ("litellm_plugins.gateway", "--fleet", str(file), "--port", port)
        self._run("gateway", gateway, {})
        replace_text(self.directory / "key", key, mode=0o600)
        replace_text(self.directory / "url", f"http://127.0.0.1:{port}")

    def _start_node(self, name: str, node: Node, moved: Fleet) -> None:
        place = self.directory / name
        build_store(place / "models", moved.models_of(name))
        hardware = place / "hardware.json"
        hardware.write_text(json.dumps(simulated_hardware(node.hardware, TIME_SCALE)))
        own = {
            "HOME": str(place),
            "OLLAMA_MODELS": str(place / "models"),
            "SIMULATED_HARDWARE": str(hardware),
            "SIMULATED_VERSION": f"{moved.ollama.version}-simulated",
        }
        self._run(name, ("lab.simulated_ollama", "serve"), {**environment(node), **own})

    def _run(self, name: str, module: Iterable[str], variables: Mapping[str, str]) -> None:
        with (self.directory / f"{name}.log").open("wb") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", *module],
                cwd=REPOSITORY,
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = Process.find(started.pid)
        if process:
            with (self.directory / "processes").open("a") as file:
                file.write(f"{process.pid} {process.started}\n")

    def _end(self) -> None:
        with suppress(FileNotFoundError):
            lines = (self.directory / "processes").read_text().splitlines()
            parts = [line.partition(" ") for line in lines]
            end(Process(int(pid), started) for pid, _, started in parts)
        with suppress(FileNotFoundError):
            shutil.rmtree(self.directory)


def _moved(declared: Fleet, key: str) -> Fleet:
    """Return the fleet with every node on an address of loopback, and with this key."""
    data = declared.model_dump(mode="json")
    for number, node in enumerate(data["nodes"].values()):
        node["address"] = str(_FIRST_ADDRESS + number)
    data["keys"][overlay.KEY_NAME] = {"sha256": key_hash(key)}
    return load_fleet(data)


def _check_addresses(moved: Fleet) -> None:
    """Find out before anything starts whether every node can have its address.

    Raises:
        LabError: with what to do about it.

    """
    for name, node in moved.nodes_with(Role.INFERENCE).items():
        with socket.socket() as trial:
            try:
                trial.bind((str(node.address), OLLAMA_PORT))
            except OSError as error:
                raise LabError(_why_not(name, node, error)) from None


def _why_not(name: str, node: Node, error: OSError) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"the simulated node {name} needs the loopback address {node.address}, and this system "
            "has only 127.0.0.1. On macOS, this adds it until the next start: "
            f"sudo ifconfig lo0 alias {node.address} up (one such line for each node)"
        )
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {OLLAMA_PORT} of {node.address} is taken; an Ollama that listens on all addresses "
            "takes it everywhere, so stop it for the time of the demo"
        )
    return f"the simulated node {name} cannot have {node.address}:{OLLAMA_PORT}: {error.strerror}"


def _free_port() -> int:
    for port in (_PORT, 0):
        with socket.socket() as trial, suppress(OSError):
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(("127.0.0.1", port))
            free: int = trial.getsockname()[1]
            return free
    raise LabError("no port is free on 127.0.0.1")
