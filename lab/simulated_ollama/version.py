"""Which version the simulation says it is."""

from __future__ import annotations

import os
import pkgutil

__all__ = ["VERSION_RESOURCE", "simulated_version"]

VERSION_RESOURCE = "VERSION"
"""File beside this module that a release carries; a source tree has none."""

_UNRELEASED = "0.0.0-simulated"


def simulated_version() -> str:
    """Return the version built into the archive, else the environment's SIMULATED_VERSION."""
    built = _built_in()
    return built or os.environ.get("SIMULATED_VERSION", "").strip() or _UNRELEASED


def _built_in() -> str | None:
    try:
        data = pkgutil.get_data("lab.simulated_ollama", VERSION_RESOURCE)
    except OSError:
        return None
    return data.decode().strip() if data else None
