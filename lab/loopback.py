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

_FIRST_ADDRESSES = tuple(IPv4Address(f"127.0.{number}.11") for number in range(10))
"""Where the nodes' addresses may begin; another fleet on loopback can have taken some."""

_PORT = 4000


@dataclass(frozen=True)
class Loopback:
    """The fleet of one name; its processes live until `down`."""

    name: str

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return CACHE / "loopback" / self.name

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

    @property
    def processes(self) -> Path:
        """A file with a line for each process of it: its id, and when it started."""
        return self.directory / "processes"

    def up(self, inventory: Path) -> Fleet:
        """Start the gateway and the inference nodes of an inventory, in place of what there is.

        Returns the fleet as it runs here.

        Raises:
            LabError: where this machine has no addresses for it, or a process does not start.

        """
        declared = fleet.read(inventory)
        key = new_key()
        with locked(CACHE / f"{self.name}.lock"):
            self._end()
            moved = _move(declared, key)
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
            with self.processes.open("a") as file:
                file.write(f"{process.pid} {process.started}\n")

    def _end(self) -> None:
        with suppress(FileNotFoundError):
            lines = self.processes.read_text().splitlines()
            parts = [line.partition(" ") for line in lines]
            end(Process(int(pid), started) for pid, _, started in parts)
        with suppress(FileNotFoundError):
            shutil.rmtree(self.directory)


def _move(declared: Fleet, key: str) -> Fleet:
    """Return the fleet with every node on an address of loopback that is free, and with this key.

    Raises:
        LabError: with what to do, where there are no such addresses.

    """
    for first in _FIRST_ADDRESSES:
        moved = _moved(declared, key, first)
        if all(_is_free(node.address) for node in moved.nodes_with(Role.INFERENCE).values()):
            return moved
    raise LabError(
        f"port {OLLAMA_PORT} is taken everywhere on loopback; an Ollama that listens on all addresses "
        "does that, so stop it for the time of the demo"
    )


def _moved(declared: Fleet, key: str, first: IPv4Address) -> Fleet:
    data = declared.model_dump(mode="json")
    for number, node in enumerate(data["nodes"].values()):
        node["address"] = str(first + number)
    data["keys"][overlay.KEY_NAME] = {"sha256": key_hash(key)}
    return load_fleet(data)


def _is_free(address: IPv4Address) -> bool:
    with socket.socket() as trial:
        try:
            trial.bind((str(address), OLLAMA_PORT))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise LabError(
                f"a simulated node needs the loopback address {address}, and this system does not "
                "have it. On macOS, this adds it until the next start, once for each node: "
                f"sudo ifconfig lo0 alias {address} up"
            ) from None
    return True


def _free_port() -> int:
    for port in (_PORT, 0):
        with socket.socket() as trial, suppress(OSError):
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(("127.0.0.1", port))
            free: int = trial.getsockname()[1]
            return free
    raise LabError("no port is free on 127.0.0.1")
