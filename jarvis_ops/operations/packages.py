"""Debian packages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyinfra.api import StringCommand, operation
from pyinfra.context import host
from pyinfra.operations import apt

from jarvis_ops.facts.packages import InstalledPackages
from jarvis_ops.facts.snapshot import Question, ask, forget, question

if TYPE_CHECKING:
    from collections.abc import Generator

    from pyinfra.api.command import PyinfraCommand

__all__ = ["installed", "present"]

_INDEX_SECONDS = 24 * 3600
"""Age up to which the package index is good enough to install from."""

_LOCK_SECONDS = 300
"""How long to wait for another package manager, e.g. the nightly upgrades."""


def installed(names: tuple[str, ...]) -> Question[set[str]]:
    """Return the question that `present` asks, to gather it ahead."""
    return question(InstalledPackages, names=names)


@operation()
def present(names: tuple[str, ...]) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that Debian packages are installed, also after an installation was cut off.

    + names: names of the packages
    """
    there = ask(host, installed(names))
    missing = sorted(name for name in set(names) if name not in there)
    if not missing:
        host.noop(f"packages {', '.join(names)} are installed")
        return
    yield StringCommand("dpkg", "--configure", "-a")
    yield from apt.packages._inner(  # noqa: SLF001 - how pyinfra calls an operation from another
        packages=missing,
        update=True,
        cache_time=_INDEX_SECONDS,
        no_recommends=True,
        extra_install_args=f"-o DPkg::Lock::Timeout={_LOCK_SECONDS}",
    )
    forget(host)
