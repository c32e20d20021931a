"""Debian packages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyinfra.api import OperationValueError, operation
from pyinfra.context import host

from jarvis_ops.facts.packages import InstalledPackages
from jarvis_ops.facts.snapshot import Question, ask, forget, question
from jarvis_ops.operations.live import run_script

if TYPE_CHECKING:
    from collections.abc import Generator

    from pyinfra.api.command import PyinfraCommand

__all__ = ["installed", "present"]

_LOCK_SECONDS = 600
"""How long to wait for another package manager, such as the upgrades of a machine's first boot."""


def installed(names: tuple[str, ...]) -> Question[set[str]]:
    """Return the question that `present` asks, to gather it ahead."""
    return question(InstalledPackages, names=names)


@operation()
def present(names: tuple[str, ...]) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that Debian packages are installed, also after an installation was cut off.

    + names: names of the packages
    """
    if not names:
        raise OperationValueError("there are no packages to install")
    there = ask(host, installed(names))
    missing = sorted(name for name in set(names) if name not in there)
    if not missing:
        host.noop(f"packages {', '.join(names)} are installed")
        return
    yield run_script("install-packages.sh", (str(_LOCK_SECONDS), *missing))
    forget(host)
