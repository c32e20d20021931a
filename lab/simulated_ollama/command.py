"""The command ``ollama``, as far as the simulation has it."""

from __future__ import annotations

import os
import sys

from lab.simulated_ollama.hardware import HardwareError, read_hardware
from lab.simulated_ollama.settings import read_settings
from lab.simulated_ollama.version import simulated_version

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["serve"]:
        return _serve()
    return 1


def _serve() -> int:
    # Only the server needs the libraries: the client's commands start without loading them.
    from lab.simulated_ollama.server import serve  # noqa: PLC0415

    try:
        serve(read_settings(os.environ), read_hardware(os.environ), simulated_version())
    except (HardwareError, OSError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    return 0
