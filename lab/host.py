"""One booted host: a layer over a base image, run by systemd-nspawn in a namespace of the LAN."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.network import processes_in
from lab.system import LabError, Process, end, mounts_below, run, unmount_below

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from ipaddress import IPv4Address

__all__ = ["File", "Host", "cut_power", "end_supervisors"]

_NSPAWN = (
    "systemd-nspawn",
    "--quiet",
    "--boot",
    "--register=no",
    "--notify-ready=yes",
    "--resolv-conf=off",
    "--timezone=off",
    "--link-journal=no",
    # Both are what systemd's IP address filters need to have an effect inside.
    "--system-call-filter=bpf",
    "--capability=all",
)
_SYSTEMD = Path("/run/systemd/system")
_GROUP = "jarvis-lab"

_AGAIN_AFTER_REBOOT = """
while "$@"; [ $? -eq 133 ]; do :; done
"""
"""systemd-nspawn ends with this status where a service manager is to start it again."""

_ENTER_GROUPS = """
while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done
shift
exec "$@"
"""


@dataclass(frozen=True)
class File:
    """A file that a host has before it boots."""

    path: str
    text: str
    mode: int = 0o644


@dataclass(frozen=True)
class Host:
    """A machine of the lab.

    `directory` keeps its disk and its console. `machine` is its name for systemd-nspawn: the lab's
    id, a dot, and a key of its own that begins no other's. `runtime` is a short path for sockets.
    """

    name: str
    address: IPv4Address
    image: Path
    directory: Path
    runtime: Path
    namespace: str
    machine: str

    @property
    def root(self) -> Path:
        """Where its file system is to be found on this machine while the lab is up."""
        return self.directory / "root"

    @property
    def console(self) -> Path:
        """File with what it wrote to its console since it was last switched on."""
        return self.directory / "console.log"

    @property
    def is_running(self) -> bool:
        """Whether it is switched on."""
        return bool(processes_in([self.namespace]))

    def install(self, files: Iterable[File], links: Iterable[tuple[str, str]] = ()) -> None:
        """Give the host its own layer over the image, with these files and links in it."""
        for part in ("upper", "work", "root"):
            (self.directory / part).mkdir(parents=True)
        # Relative paths: they have no commas and colons, which would end an option.
        image = os.path.relpath(self.image, self.directory)
        options = f"lowerdir={image},upperdir=upper,workdir=work"
        run("mount", "-t", "overlay", "overlay", "-o", options, "root", directory=self.directory)
        for file in files:
            self.write(file)
        for path, target in links:
            link = self.root / path.lstrip("/")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)

    def write(self, file: File) -> None:
        """Write a file to its disk, whether it is switched on or not."""
        path = self.root / file.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(file.mode)
        path.write_text(file.text)

    def boot(self, patience: float = 60) -> None:
        """Switch it on and wait until its services have started, at most `patience` seconds.

        Raises:
            LabError: with the last words on its console, where it does not come up.

        """
        groups = [] if _SYSTEMD.is_dir() else list(self._make_groups())
        path = self.runtime / f"{self.machine}.notify"
        with _notifications(path) as messages, self.console.open("wb") as console:
            supervisor = subprocess.Popen(
                [
                    *("sh", "-c", _AGAIN_AFTER_REBOOT, "again"),
                    *("sh", "-c", _ENTER_GROUPS, "enter", *map(str, groups), "--", *_NSPAWN),
                    *(["--keep-unit"] if groups else []),
                    f"--machine={self.machine}",
                    f"--hostname={self.name}",
                    f"--directory={self.root}",
                    f"--network-namespace-path=/run/netns/{self.namespace}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env={**os.environ, "NOTIFY_SOCKET": str(path)},
                start_new_session=True,
            )
            if not _is_ready(messages, supervisor, patience):
                raise LabError(f"{self.name} does not boot: {self._last_words()}")

    def power_off(self, patience: float = 60) -> None:
        """Shut it down in order, as its power button does."""
        supervisors = list(_supervisors(self.machine))
        for supervisor in supervisors:
            supervisor.send(signal.SIGTERM)
        if not all(supervisor.wait(patience) for supervisor in supervisors):
            raise LabError(f"{self.name} does not shut down: {self._last_words()}")
        self._remove_groups()

    def power_cut(self) -> None:
        """Stop it between two instructions. What it had written to its disk stays."""
        cut_power([self.namespace])
        end(_supervisors(self.machine), patience=10)
        self._remove_groups()

    def remove(self) -> None:
        """Let go of its disk."""
        self._remove_groups()
        unmount_below(self.directory)

    @property
    def has_disk(self) -> bool:
        """Whether its file system is mounted."""
        return bool(mounts_below(self.root))

    def _last_words(self) -> str:
        lines = self.console.read_text(errors="replace").split("\n")
        said = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip() for line in lines]
        return " / ".join([line for line in said if line][-3:]) or "nothing on its console"

    def _make_groups(self) -> Iterator[Path]:
        """Make control groups of its own, where no systemd does it.

        Two hosts in one group would take each other's processes for their own.
        """
        for group in self._groups():
            group.mkdir(parents=True, exist_ok=True)
            yield group

    def _remove_groups(self) -> None:
        for group in self._groups():
            _remove_group(group)

    def _groups(self) -> list[Path]:
        return [root / _GROUP / self.machine for root in _group_roots()]


def cut_power(namespaces: Iterable[str]) -> None:
    """Stop the hosts in these namespaces between two instructions.

    With its first process all others of a host are gone, and its supervisor tidies up and ends.
    """
    first = [process for process in processes_in(namespaces) if _is_init(process)]
    for process in first:
        process.send(signal.SIGKILL)
    for process in first:
        process.wait(10)


def end_supervisors(lab: str) -> None:
    """End every systemd-nspawn of a lab, also one that has only just been started."""
    end(_supervisors(f"{lab}."))
    for root in _group_roots():
        for group in (root / _GROUP).glob(f"{lab}.*"):
            _remove_group(group)
        # Other labs may have theirs in it.
        with suppress(OSError):
            (root / _GROUP).rmdir()


def _remove_group(group: Path) -> None:
    directories = [path for path in group.rglob("*") if path.is_dir()]
    for directory in sorted([*directories, group], reverse=True):
        if directory.exists():
            directory.rmdir()


def _group_roots() -> list[Path]:
    """Return the hierarchies of control groups that systemd manages services in."""
    roots = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 ") or (kind.startswith("cgroup ") and "name=systemd" in kind):
            roots.append(Path(place.split()[4]))
    return roots


def _supervisors(machine: str) -> Iterator[Process]:
    """Yield the systemd-nspawn processes of machines whose name begins so."""
    for entry in Path("/proc").glob("[0-9]*"):
        process = Process.find(int(entry.name))
        if process is None:
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if any(item.startswith(f"--machine={machine}".encode()) for item in arguments):
            yield process


def _is_init(process: Process) -> bool:
    """Whether a process is the first one of its own process namespace."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    ids = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
    return len(ids) > 1 and ids[-1] == "1"


@contextmanager
def _notifications(path: Path) -> Iterator[socket.socket]:
    """Open the socket on which systemd-nspawn tells how far its machine is."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messages:
        messages.bind(str(path))
        yield messages
    path.unlink()


def _is_ready(
    messages: socket.socket, supervisor: subprocess.Popen[bytes], patience: float
) -> bool:
    limit = time.monotonic() + patience
    while time.monotonic() < limit and supervisor.poll() is None:
        readable, _, _ = select.select([messages], [], [], 0.5)
        if readable and b"READY=1" in messages.recv(4096).split(b"\n"):
            return True
    return False
