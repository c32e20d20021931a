"""State of the files that we manage."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

__all__ = ["FileState", "FileStates"]


@dataclass(frozen=True)
class FileState:
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
