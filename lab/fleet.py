"""Which machines an inventory declares, in the words of pyinfra itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from lab.image import Suite
from lab.system import LabError
from litellm_plugins.schema import Fleet, Role, load_fleet

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["OVERLAY_VARIABLE", "read", "suite_of"]

OVERLAY_VARIABLE = "JARVIS_FLEET_OVERLAY"
"""Names a YAML file that is merged over the inventory; `jarvis_ops.inventory` reads it."""


def read(inventory: Path, overlay: Path | None = None) -> Fleet:
    """Return the fleet that an inventory declares, with an overlay over it.

    pyinfra runs in a process of its own: it changes how everything in its process does I/O.

    Raises:
        LabError: with pyinfra's own words, where the inventory is not valid.

    """
    environment = dict(os.environ)
    if overlay:
        environment[OVERLAY_VARIABLE] = str(overlay)
    done = subprocess.run(
        [sys.executable, "-m", "pyinfra", str(inventory), "debug-inventory", "--json"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise LabError(f"{inventory}: {done.stderr.strip() or 'pyinfra cannot read it'}")
    fleets = [host["data"]["fleet"] for host in json.loads(done.stdout) if "fleet" in host["data"]]
    if not fleets:
        raise LabError(f"{inventory} declares no fleet; it should end like inventory.py does")
    return load_fleet(fleets[0])


def suite_of(name: str, fleet: Fleet) -> Suite:
    """Return which Debian a node runs in the lab: the second that computes 13, all others 12."""
    computing = list(fleet.nodes_with(Role.INFERENCE))
    return Suite.TRIXIE if computing[1:2] == [name] else Suite.BOOKWORM
