"""State of the files and directories that we manage."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

from jarvis_ops.facts.value import Value

__all__ = ["DirectoryState", "DirectoryStates", "FileState", "FileStates"]


@dataclass(frozen=True)
class FileState(Value):
    """What a file is: octal mode without leading zero, owner, group, sha256 in hex."""

    mode: str
    user: str
    group: str
    sha256: str


class FileStates(FactBase[dict[str, FileState]]):
    """The state of several files by path; a path that is not a regular file is left out."""

    default = dict

    @override
    def command(self, paths: tuple[str, ...]) -> str:
        names = " ".join(shlex.quote(path) for path in paths)
        return (
            f"for f in {names}; do "
            'if [ -f "$f" ] && [ ! -L "$f" ]; then '
            """printf '%s %s %s\\n' "$(stat -c '%a %U %G' "$f")" "$(sha256sum <"$f" | cut -c1-64)" "$f"; """
            "fi; done"
        )

    @override
    def process(self, output: list[str]) -> dict[str, FileState]:
        states: dict[str, FileState] = {}
        for line in output:
            mode, user, group, sha256, path = line.split(" ", 4)
            states[path] = FileState(mode, user, group, sha256)
        return states


@dataclass(frozen=True)
class DirectoryState(Value):
    """What a directory is: octal mode without leading zero, owner, group."""

    mode: str
    user: str
    group: str


class DirectoryStates(FactBase[dict[str, DirectoryState]]):
    """The state of several directories by path; a path that is not one is left out."""

    default = dict

    @override
    def command(self, paths: tuple[str, ...]) -> str:
        names = " ".join(shlex.quote(path) for path in paths)
        return f'for d in {names}; do if [ -d "$d" ]; then stat -c \'%a %U %G %n\' "$d"; fi; done'

    @override
    def process(self, output: list[str]) -> dict[str, DirectoryState]:
        states: dict[str, DirectoryState] = {}
        for line in output:
            mode, user, group, path = line.split(" ", 3)
            states[path] = DirectoryState(mode, user, group)
        return states
