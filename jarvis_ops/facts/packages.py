"""Debian packages."""

from __future__ import annotations

import shlex

from pyinfra.api import FactBase
from typing_extensions import override

__all__ = ["InstalledPackages"]


class InstalledPackages(FactBase[set[str]]):
    """Which of the named Debian packages are completely installed."""

    default = set

    @override
    def command(self, names: tuple[str, ...]) -> str:
        listed = " ".join(shlex.quote(name) for name in names)
        return f"dpkg-query -W -f '${{Package}} ${{db:Status-Status}}\\n' {listed} || true"

    @override
    def process(self, output: list[str]) -> set[str]:
        pairs = (line.split() for line in output)
        return {pair[0] for pair in pairs if pair[1:] == ["installed"]}
