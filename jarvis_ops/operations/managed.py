"""Files whose whole content is ours, and directories."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyinfra.api import FileUploadCommand, QuoteString, StringCommand, operation
from pyinfra.context import host

from jarvis_ops.facts.managed import DirectoryState, DirectoryStates, FileState, FileStates
from jarvis_ops.facts.snapshot import Question, ask, forget, question

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from pyinfra.api.command import PyinfraCommand

__all__ = [
    "ManagedDirectory",
    "ManagedFile",
    "directories",
    "directory_states",
    "files",
    "states",
]


@dataclass(frozen=True)
class ManagedFile:
    """A file as it shall be.

    `check` is a command that gets the path of the new file as its last argument, before it takes
    the place of the old one; if it fails, the old one stays.
    """

    path: str
    content: str = field(repr=False)
    mode: str = "644"
    user: str = "root"
    group: str = "root"
    check: str | None = None

    @property
    def state(self) -> FileState:
        """What the fact must say for the file to be left alone."""
        sha256 = hashlib.sha256(self.content.encode()).hexdigest()
        return FileState(self.mode, self.user, self.group, sha256)


def states(wanted: Sequence[ManagedFile]) -> Question[dict[str, FileState]]:
    """Return the question that `files` asks, to gather it ahead."""
    return question(FileStates, paths=tuple(item.path for item in wanted))


@operation()
def files(wanted: Sequence[ManagedFile]) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that files have exactly this content, mode and owner. Each is replaced atomically.

    + wanted: the files
    """
    current = ask(host, states(wanted))
    stale = [item for item in wanted if current.get(item.path) != item.state]
    if not stale:
        host.noop(f"{len(wanted)} files are as declared")
        return
    for item in stale:
        yield from _replace(item)
    forget(host)


def _replace(item: ManagedFile) -> Generator[PyinfraCommand, None, None]:
    new = f"{item.path}.jarvis-new"
    yield StringCommand("mkdir", "-p", QuoteString(item.path.rpartition("/")[0]))
    yield StringCommand("install", "-m", "600", "/dev/null", QuoteString(new))
    yield FileUploadCommand(io.BytesIO(item.content.encode()), new)
    if item.check is not None:
        yield StringCommand(item.check, QuoteString(new))
    yield StringCommand("chown", QuoteString(f"{item.user}:{item.group}"), QuoteString(new))
    yield StringCommand("chmod", item.mode, QuoteString(new))
    yield StringCommand("mv", "-f", QuoteString(new), QuoteString(item.path))


@dataclass(frozen=True)
class ManagedDirectory:
    """A directory as it shall be; what is in it is not looked at."""

    path: str
    mode: str = "755"
    user: str = "root"
    group: str = "root"

    @property
    def state(self) -> DirectoryState:
        """What the fact must say for the directory to be left alone."""
        return DirectoryState(self.mode, self.user, self.group)


def directory_states(wanted: Sequence[ManagedDirectory]) -> Question[dict[str, DirectoryState]]:
    """Return the question that `directories` asks, to gather it ahead."""
    return question(DirectoryStates, paths=tuple(item.path for item in wanted))


@operation()
def directories(wanted: Sequence[ManagedDirectory]) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that directories are there with this mode and owner.

    + wanted: the directories, parents before what is in them
    """
    current = ask(host, directory_states(wanted))
    stale = [item for item in wanted if current.get(item.path) != item.state]
    if not stale:
        host.noop(f"{len(wanted)} directories are as declared")
        return
    for item in stale:
        yield StringCommand(
            *("install", "-d", "-m", item.mode, "-o", QuoteString(item.user)),
            *("-g", QuoteString(item.group), QuoteString(item.path)),
        )
    forget(host)
