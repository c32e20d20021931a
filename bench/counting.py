"""pyinfra, with what it does on each host over SSH counted: commands and file transfers.

Usage: python -m bench.counting INVENTORY DEPLOY [OPTION...], with the path of the file that the
counts go to in JARVIS_BENCH_COUNTS.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

_ROUND_TRIPS = ("run_shell_command", "_put_file", "_get_file")
"""The connector's methods at the bottom: an upload with sudo is one transfer and two commands."""

_counts: Counter[str] = Counter()


def _count(connector: type[Any], name: str) -> None:
    original = getattr(connector, name)

    @functools.wraps(original)
    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        _counts[self.host.name] += 1
        return original(self, *args, **kwargs)

    setattr(connector, name, counted)


def _save() -> None:
    Path(os.environ["JARVIS_BENCH_COUNTS"]).write_text(json.dumps(_counts))


def main() -> int | None:
    """Run pyinfra's command line, counting."""
    # In this order: the command line patches the standard library for what is imported after it.
    command_line = importlib.import_module("pyinfra_cli.main")
    connector = importlib.import_module("pyinfra.connectors.ssh").SSHConnector
    for name in _ROUND_TRIPS:
        _count(connector, name)
    atexit.register(_save)
    status: int | None = command_line.main()
    return status


if __name__ == "__main__":
    sys.exit(main())
