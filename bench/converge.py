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

_GATEWAY = "host-01"
_MODEL = "llama3.2:3b"

_INVENTORY = """\
from jarvis_ops.inventory import groups_of

globals().update(groups_of({fleet!r}))
"""

_AUTOMATIC = ("-y",)
_ASKING: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One run: its seconds, and its round trips to the gateway and to the busiest other host."""

    seconds: float
    to_gateway: int
    to_node: int | None


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
    gateway = nodes[_GATEWAY]
    gateway["roles"] = ["gateway", "inference"]
    if hosts > 1:
        nodes[_GATEWAY] = {"address": gateway["address"], "roles": ["gateway"]}
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
    round_trips: dict[str, int] = json.loads(counts.read_text())
    run = Run(seconds, round_trips.pop(_GATEWAY), max(round_trips.values(), default=None))
    _say(f"  {run}")
    return run


def _median(runs: Sequence[Run]) -> Run:
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the result as Markdown."""
    columns = ("first run", "unchanged, `-y`", "unchanged, plan and run")
    yield f"| hosts | {' | '.join(columns)} | round trips to a node | to the gateway |"
    yield f"| ---: |{' ---: |' * (len(columns) + 2)}"
    for row in rows:
        runs = (row.first, row.automatic, row.asking)
        seconds = " | ".join(f"{run.seconds:.1f} s" for run in runs)
        nodes = " / ".join("-" if run.to_node is None else str(run.to_node) for run in runs)
        gateway = " / ".join(str(run.to_gateway) for run in runs)
        yield f"| {row.hosts} | {seconds} | {nodes} | {gateway} |"


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
    command = " ".join(("python -m bench.converge", *sys.argv[1:]))
    print(
        f"\nMedian of {options.repeat} unchanged runs. Round trips are commands and file transfers, in "
        f"the runs of the three columns.\n{os.cpu_count()} processors for the control side and all "
        f"hosts: `{command}`"
    )


if __name__ == "__main__":
    main()
