"""Settings of this machine's kernel that labs need to be different, as long as there are labs."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lab.system import locked, replace_text

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MANY_HOSTS", "RUNTIME", "borrow", "give_back"]

RUNTIME = Path("/run/jarvis-lab")
"""What labs know of each other until the machine's next start."""

MANY_HOSTS = {Path("/proc/sys/fs/inotify/max_user_instances"): 8192}
"""A host needs eight, all hosts count together, and 128 is a common limit."""

_ROUTER = Path("/proc/sys/net/ipv4/ip_forward")
_ORIGINALS = RUNTIME / "settings.json"
_BORROWERS = RUNTIME / "borrowers"


def borrow(lab: str, settings: Mapping[Path, int]) -> None:
    """Raise settings, by their files, to these values for a lab; what is higher already stays.

    The original values are written down before anything is changed.
    """
    with locked(RUNTIME / "lock"):
        originals = _originals()
        for file, least in settings.items():
            value = int(file.read_text())
            if value < least:
                originals.setdefault(str(file), value)
        replace_text(_ORIGINALS, json.dumps(originals))
        _BORROWERS.mkdir(exist_ok=True)
        (_BORROWERS / lab).touch()
        for file, least in settings.items():
            if int(file.read_text()) < least:
                file.write_text(str(least))


def give_back(lab: str) -> None:
    """Tell that a lab needs nothing any more; after the last one, everything is as it was."""
    with locked(RUNTIME / "lock"):
        (_BORROWERS / lab).unlink(missing_ok=True)
        if any(_BORROWERS.glob("*")):
            return
        for name, value in _originals().items():
            if Path(name).exists() and not _others_need(Path(name)):
                Path(name).write_text(str(value))
        _ORIGINALS.unlink(missing_ok=True)


def _others_need(file: Path) -> bool:
    """Whether somebody has come to need a setting since: Docker, say, has made this a router."""
    return file.name == "forwarding" and _ROUTER.read_text().strip() == "1"


def _originals() -> dict[str, int]:
    with suppress(FileNotFoundError):
        originals: dict[str, int] = json.loads(_ORIGINALS.read_text())
        return originals
    return {}
