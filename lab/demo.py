"""`make demo`: a fleet on this machine, from nothing to an answer, on the screen."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console

from lab import machine
from lab.laboratory import REPOSITORY, Lab
from lab.loopback import Loopback
from lab.supply import declared_models
from lab.system import LabError
from lab.visit import visit

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["demo"]

_SIMULATED = (
    "[yellow]Ollama and its models are simulated here: the answers are made up, "
    "their speed is that of the declared hardware, sped up {times:.0f} times.[/]"
)
_REAL = "Ollama {version} and its models are real here; the hosts' GPUs are not there."


def demo(name: str, inventory: Path, time_scale: float) -> int:
    """Bring a fleet up, deploy it, ask it a question; leave it up. Return the exit status."""
    console = Console()
    started = time.monotonic()
    reason = machine.why_not()
    if reason:
        console.print(f"[yellow]No hosts are booted here: {reason}.[/]")
        _on_loopback(Loopback(name), inventory, console)
    else:
        _on_hosts(Lab(name), inventory, time_scale, console)
    console.print(f"This took {time.monotonic() - started:.0f} seconds.", highlight=False)
    return 0


def _on_hosts(lab: Lab, inventory: Path, time_scale: float, console: Console) -> None:
    if not lab.is_up or lab.state.inventory != inventory.resolve():
        lab.up(inventory, time_scale=time_scale, say=console.print)
    _tell_what_is_simulated(lab, console)
    console.rule(f"pyinfra {inventory.name} deploy.py -y")
    environment = {**os.environ, **lab.environment}
    deploy = lab.command("pyinfra", str(lab.state.inventory), "deploy.py", "-y")
    if subprocess.run(deploy, cwd=REPOSITORY, env=environment, check=False).returncode:
        raise LabError("the deploy failed; the hosts are still up, see `python -m lab status`")
    console.rule("The endpoint")
    url = lab.state.url
    models = declared_models(lab.state.fleet)
    look = lab.command(sys.executable, "-m", "lab.visit", url, *models)
    if subprocess.run(look, cwd=REPOSITORY, env=environment, check=False).returncode:
        raise LabError("the endpoint does not answer; see `python -m lab ssh` into the gateway")
    _tell_how_to_go_on(lab, url, console)


def _on_loopback(fleet: Loopback, inventory: Path, console: Console) -> None:
    console.print(
        "Instead, the real gateway runs over simulated nodes on this machine's loopback: "
        "[yellow]no deploy, no TLS, and every answer is made up.[/]"
    )
    models = declared_models(fleet.up(inventory))
    visit(fleet.url, fleet.key, None, models, console)
    console.print("\nTo go on:", style="bold")
    _print_command(console, f"export JARVIS_KEY={fleet.key}")
    _print_command(console, f'curl {fleet.url}/api/nodes -H "Authorization: Bearer $JARVIS_KEY"')
    _print_command(console, f"tail -f {fleet.directory}/gateway.log")
    _print_command(console, "make demo-down")


def _tell_what_is_simulated(lab: Lab, console: Console) -> None:
    state = lab.state
    if state.supply.is_real:
        console.print(_REAL.format(version=state.supply.version), highlight=False)
    else:
        console.print(_SIMULATED.format(times=1 / state.time_scale), highlight=False)


def _tell_how_to_go_on(lab: Lab, url: str, console: Console) -> None:
    python = ".venv/bin/python -m lab"
    name = "" if lab.name == "demo" else f" --name {lab.name}"
    first = next(iter(lab.hosts))
    console.print("\nTo go on:", style="bold")
    _print_command(console, f"{python} exec{name} -- pyinfra inventory.py deploy.py")
    _print_command(
        console,
        f"{python} exec{name} -- sh -c 'curl --cacert $JARVIS_CA_FILE {url}/api/nodes "
        '-H "Authorization: Bearer $JARVIS_KEY"\'',
    )
    _print_command(console, f"{python} ssh{name} {first}")
    _print_command(console, "make demo-down")


def _print_command(console: Console, command: str) -> None:
    console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)
