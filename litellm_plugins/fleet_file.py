"""The fleet file, followed while the gateway runs: a change is taken up without a restart."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from litellm_plugins.schema import Fleet, FleetError, load_fleet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["FleetFile"]

_LOOK_SECONDS = 0.5

_log = logging.getLogger(__name__)

_Signature = tuple[int, int, int]


class FleetFile:
    """The last good content of a fleet file.

    Raises:
        FleetError: on construction, with one line per error, if the file is not valid.
        OSError: on construction, if it cannot be read.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: _Signature | None = _signature(path)
        self.current: Fleet = load_fleet(path.read_bytes())

    async def follow(self, on_change: Callable[[], None]) -> None:
        """Look at the file again and again; call back after each change that is valid."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self.reload():
                on_change()

    def reload(self) -> bool:
        """Read the file if it is not the one seen last; return whether the fleet has changed.

        Of a file that is missing or not valid, each error is logged, once, and the last good fleet
        stays.
        """
        signature = _signature(self._path)
        if signature == self._seen:
            return False
        self._seen = signature
        try:
            fleet = load_fleet(self._path.read_bytes())
        except (OSError, FleetError) as error:
            lines = error.lines if isinstance(error, FleetError) else [str(error)]
            for line in lines:
                _log.error("%s is not taken up, the last good fleet stays: %s", self._path, line)
            return False
        if fleet == self.current:
            return False
        self.current = fleet
        _log.info("%s has changed and is taken up", self._path)
        return True


def _signature(path: Path) -> _Signature | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
