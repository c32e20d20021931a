"""How long a deploy takes, and how much it asks of each host: at 1, 5 and 20 hosts of the lab.

    python -m bench.converge [--hosts N ...] [--repeat N]

The first host is the gateway, all others are inference nodes with one model; a single host is both.
The hosts and the control side share this machine's processors, so time over their number is a lower
bound of what separate machines would do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.laboratory import REPOSITORY, Lab

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MODEL = "llama3.2:3b"

_INVENTORY = """\
from jarvis_ops.inventory import groups_of

globals().update(groups_of({fleet!r}))
"""

_AUTOMATIC = ("-y",)
_ASKING: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One run: its seconds, and its round trips on the host that had most of them."""

    seconds: float
    round_trips: int


@dataclass(frozen=True)
class Row:
    """The runs at one size of the fleet; `asking` shows the plan first and waits for a yes."""

    hosts: int
    first: Run
    automatic: Run
    asking: Run


def fleet(hosts: int) -> dict[str, Any]:
    """Return a fleet of so many hosts as an inventory declares it."""
    nodes: dict[str, Any] = {
        f"host-{number:02}": {"address": f"10.30.0.{number + 9}", "models": [_MODEL]}
        for number in range(1, hosts + 1)
    }
    gateway = nodes["host-01"]
    gateway["roles"] = ["gateway", "inference"]
    if hosts > 1:
        nodes["host-01"] = {"address": gateway["address"], "roles": ["gateway"]}
    return {"ollama": {"version": "0.34.2"}, "nodes": nodes}


def measure(hosts: int, repeat: int, directory: Path) -> Row:
    """Boot empty hosts, deploy them, and deploy them again."""
    inventory = directory / f"fleet_of_{hosts}.py"
    inventory.write_text(_INVENTORY.format(fleet=fleet(hosts)))
    lab = Lab("bench")
    lab.up(inventory, say=_say)
    try:
        first = _deploy(lab, directory, _AUTOMATIC)
        automatic = [_deploy(lab, directory, _AUTOMATIC) for _ in range(repeat)]
        asking = [_deploy(lab, directory, _ASKING) for _ in range(repeat)]
    finally:
        lab.down()
    return Row(hosts, first, _median(automatic), _median(asking))


def _deploy(lab: Lab, directory: Path, options: Sequence[str]) -> Run:
    counts = directory / "counts.json"
    began = time.perf_counter()
    done = subprocess.run(
        lab.command(
            *(sys.executable, "-m", "bench.counting"),
            *(str(lab.state.inventory), "deploy.py", *options),
        ),
        cwd=REPOSITORY,
        env={**os.environ, **lab.environment, "JARVIS_BENCH_COUNTS": str(counts)},
        input="y\n",
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"the deploy failed:\n{done.stderr}")
    run = Run(seconds, max(json.loads(counts.read_text()).values()))
    _say(f"  {seconds:.1f} s, at most {run.round_trips} round trips on a host")
    return run


def _median(runs: Sequence[Run]) -> Run:
    return Run(statistics.median(run.seconds for run in runs), max(run.round_trips for run in runs))


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the result as Markdown."""
    yield "| hosts | first run | unchanged, `-y` | unchanged, plan and run | round trips a host |"
    yield "| ---: | ---: | ---: | ---: | ---: |"
    for row in rows:
        yield (
            f"| {row.hosts} | {row.first.seconds:.1f} s | {row.automatic.seconds:.1f} s "
            f"| {row.asking.seconds:.1f} s | {row.first.round_trips} / {row.automatic.round_trips} "
            f"/ {row.asking.round_trips} |"
        )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.converge")
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 5, 20], metavar="N")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="of unchanged runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jarvis-bench-") as directory:
        rows = [measure(hosts, options.repeat, Path(directory)) for hosts in options.hosts]
    print("\n".join(table(rows)))
    print(f"\nUnchanged runs are the median of {options.repeat}. Round trips, commands and file")
    print("transfers, are of the host with most of them, in the runs of the columns before.")
    print(f"{os.cpu_count()} processors for the control side and all hosts; {' '.join(sys.argv)}")


if __name__ == "__main__":
    main()
