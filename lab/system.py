"""The few things of a Linux machine that the lab needs: programs, processes, mounts, locks."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "LabError",
    "Process",
    "end",
    "locked",
    "mounts_below",
    "remove_tree",
    "replace_text",
    "run",
    "unmount_below",
]


class LabError(RuntimeError):
    """The lab cannot do what it was asked for; the message is a sentence for the user."""


def run(
    *command: str,
    given: str | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> str:
    """Run a program to its end and return what it wrote to stdout.

    Raises:
        LabError: with the last line of its stderr, where it cannot be started or fails.

    """
    try:
        done = subprocess.run(
            command,
            input=given,
            env=None if environment is None else {**os.environ, **environment},
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise LabError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["no output"]
        raise LabError(f"`{' '.join(command)}` failed ({done.returncode}): {said[-1]}")
    return done.stdout


@dataclass(frozen=True)
class Process:
    """A process that stays the same one: its id, and when it started, in the system's own words."""

    pid: int
    started: str

    @classmethod
    def find(cls, pid: int) -> Process | None:
        """Return the process that has this id now."""
        found = _look(pid)
        return None if found is None else cls(pid, found[1])

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; one that ended and waits for its parent does not."""
        found = _look(self.pid)
        return found is not None and found[1] == self.started and found[0] not in "ZX"

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended and its id may be another's by now."""
        if self.is_alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended; return whether it has."""
        limit = time.monotonic() + seconds
        while self.is_alive:
            if time.monotonic() > limit:
                return False
            time.sleep(0.02)
        # Where it is a child of ours, it stays in the table until somebody asks for its end.
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        return True


def _look(pid: int) -> tuple[str, str] | None:
    """Return a process's state, by its letter, and when it started."""
    if sys.platform != "linux":
        listed = subprocess.run(
            ["ps", "-o", "state=,lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        state, _, started = listed.stdout.strip().partition(" ")
        return (state[0], started) if state else None
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name comes before these fields, in brackets, and may hold blanks and brackets itself.
    fields = text.rpartition(")")[2].split()
    return fields[0], fields[19]


def end(processes: Iterable[Process], patience: float = 3) -> None:
    """End processes: first asked to, and after `patience` seconds by force."""
    remaining = list(processes)
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 10)):
        for process in remaining:
            process.send(number)
        limit = time.monotonic() + seconds
        remaining = [item for item in remaining if not item.wait(limit - time.monotonic())]
    if remaining:
        raise LabError(f"cannot end the processes {', '.join(str(item.pid) for item in remaining)}")


_ESCAPE = re.compile(r"\\([0-7]{3})")


def mounts_below(directory: Path) -> list[Path]:
    """Return what is mounted at or below a directory, the innermost first."""
    points = [
        Path(_ESCAPE.sub(lambda found: chr(int(found[1], 8)), line.split()[4]))
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    ]
    return [point for point in reversed(points) if point.is_relative_to(directory)]


def unmount_below(directory: Path) -> None:
    """Unmount everything at or below a directory, even what a dying process still uses."""
    for point in mounts_below(directory):
        run("umount", "--lazy", str(point))


def remove_tree(directory: Path) -> None:
    """Remove a directory and never reach through a mount in it: what is mounted is let go first."""
    unmount_below(directory)
    run("rm", "--recursive", "--force", "--one-file-system", str(directory))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes; it ends with the process that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def replace_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old text or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.touch(mode=mode)
    fresh.chmod(mode)
    fresh.write_text(text)
    fresh.replace(path)
