"""What a machine is, whatever runs on it."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

from jarvis_ops.facts.snapshot import Question, question
from jarvis_ops.facts.value import Value
from jarvis_ops.text import script

__all__ = ["Listener", "Listeners", "Machine", "MachineState", "Space", "Spaces", "machine"]

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Machine(Value):
    """Operating system by its os-release, Debian's name of the architecture, IPv4 addresses.

    `can_fetch` is whether the web can be asked from there, before anything is installed.
    """

    os: str = "unknown"
    version: str = ""
    name: str = "an unknown system"
    architecture: str = "unknown"
    has_systemd: bool = False
    can_fetch: bool = False
    addresses: tuple[str, ...] = ()


class MachineState(FactBase[Machine]):
    """What the machine is."""

    default = Machine

    @override
    def command(self) -> str:
        return script("machine.sh")

    @override
    def process(self, output: list[str]) -> Machine:
        pairs = [line.partition("=")[::2] for line in output]
        found = dict(pairs)
        architecture = found.get("architecture", "unknown")
        return Machine(
            os=found.get("os", "unknown"),
            version=found.get("version", ""),
            name=found.get("name", "an unknown system"),
            architecture=_ARCHITECTURES.get(architecture, architecture),
            has_systemd="systemd" in found,
            can_fetch="can_fetch" in found,
            addresses=tuple(sorted({value for key, value in pairs if key == "address"})),
        )


def machine() -> Question[Machine]:
    """Return the question what the machine is. No operation changes the answer."""
    return question(MachineState)


@dataclass(frozen=True)
class Listener(Value):
    """A process that listens on a TCP port; `unit` is the system service that it belongs to."""

    port: int
    pid: int
    process: str
    unit: str | None


class Listeners(FactBase[tuple[Listener, ...]]):
    """The processes that listen on certain TCP ports, on whatever address."""

    default = tuple

    @override
    def command(self, ports: tuple[int, ...]) -> str:
        return script("listeners.sh", [str(port) for port in ports])

    @override
    def process(self, output: list[str]) -> tuple[Listener, ...]:
        rows = [line.split() for line in output]
        found = {
            Listener(int(port), int(pid), process, None if unit == "-" else unit)
            for port, pid, process, unit in rows
        }
        return tuple(sorted(found, key=lambda item: (item.port, item.pid)))


@dataclass(frozen=True)
class Space(Value):
    """Free bytes for a path, and the number of the file system's device, to tell which share one."""

    device: int
    free: int


class Spaces(FactBase[dict[str, Space]]):
    """Free space by path; a path need not exist yet."""

    default = dict

    @override
    def command(self, paths: tuple[str, ...]) -> str:
        return script("space.sh", paths)

    @override
    def process(self, output: list[str]) -> dict[str, Space]:
        rows = [line.rsplit(" ", 2) for line in output]
        return {path: Space(int(device), int(free)) for path, device, free in rows}
