"""The lab's command line: ``python -m lab up | down | status | demo | exec | ssh``."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from lab import machine
from lab.demo import demo
from lab.laboratory import REPOSITORY, TIME_SCALE, Lab
from lab.loopback import Loopback
from lab.system import LabError

_Command = Callable[[argparse.Namespace], int]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(arguments)
    # Who became root with a plain `su` has a user's PATH.
    os.environ["PATH"] += f"{os.pathsep}/usr/sbin{os.pathsep}/sbin"
    try:
        status: int = options.command(options)
    except (LabError, OSError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    default = os.environ.get("JARVIS_LAB", "demo")
    common.add_argument("--name", default=default, help="which lab (default: %(default)s)")
    hosts = argparse.ArgumentParser(add_help=False)
    hosts.add_argument(
        "--inventory",
        type=Path,
        default=REPOSITORY / "inventory.py",
        metavar="FILE",
        help="whose hosts to boot (default: inventory.py)",
    )
    hosts.add_argument(
        "--time-scale",
        type=_factor,
        default=TIME_SCALE,
        metavar="FACTOR",
        help="of the time that simulated models take; 1 is true to life (default: %(default)s)",
    )

    def add(
        command: _Command, text: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        name = command.__name__.removeprefix("_")
        made = commands.add_parser(name, help=text, parents=[common, *parents])
        made.set_defaults(command=command)
        return made

    add(_up, "boot the hosts of an inventory, anew if they are up", hosts)
    add(_demo, "boot, deploy, ask, show; the fleet stays up", hosts)
    add(_down, "remove everything of a lab")
    add(_status, "show what is up")
    run = add(_exec, "run a command in the lab's network, set up to work on its fleet")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="-- CMD")
    login = add(_ssh, "log into a host, or run a command there")
    login.add_argument("host", metavar="HOST")
    login.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD")
    return parser


def _factor(text: str) -> float:
    factor = float(text)
    if not 0 < factor < math.inf:
        raise argparse.ArgumentTypeError("must be greater than 0")
    return factor


def _up(options: argparse.Namespace) -> int:
    lab = Lab(options.name)
    lab.up(options.inventory, time_scale=options.time_scale)
    return _status(options)


def _demo(options: argparse.Namespace) -> int:
    return demo(options.name, options.inventory, options.time_scale)


def _down(options: argparse.Namespace) -> int:
    on_loopback = Loopback(options.name)
    has_loopback = on_loopback.exists
    if has_loopback:
        on_loopback.down()
    if machine.why_not() is None or not has_loopback:
        Lab(options.name).down()
    return 0


def _status(options: argparse.Namespace) -> int:
    on_loopback = Loopback(options.name)
    if on_loopback.exists:
        print(f"fleet {options.name!r} on loopback, all nodes simulated: {on_loopback.url}")
        return 0
    lab = Lab(options.name)
    state = lab.state
    ollama = "real" if state.supply.is_real else "simulated"
    print(f"lab {lab.name!r}: Ollama {state.supply.version} ({ollama})")
    for name, host in lab.hosts.items():
        system = state.machines[name].suite.product
        condition = "up" if host.is_running else "off"
        print(f"  {name:<20} {host.address!s:<16} {system:<10} {condition}")
    print(f"  {'internet (simulated)':<48}{'up' if lab.internet.is_running else 'off'}")
    return 0 if lab.is_up else 1


def _exec(options: argparse.Namespace) -> NoReturn:
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    if not words:
        raise LabError("which command? e.g. `python -m lab exec -- pyinfra inventory.py deploy.py`")
    lab = Lab(options.name)
    _become(lab, lab.command(*words))


def _ssh(options: argparse.Namespace) -> NoReturn:
    lab = Lab(options.name)
    if options.host not in lab.hosts:
        raise LabError(f"there is no host {options.host!r}, but {', '.join(lab.hosts)}")
    _become(lab, lab.command("ssh", "-F", str(lab.login.config), options.host, *options.words))


def _become(lab: Lab, command: list[str]) -> NoReturn:
    environment = {**os.environ, **lab.environment}
    os.execvpe(command[0], command, environment)  # noqa: S606 - there is no shell to go through


if __name__ == "__main__":
    raise SystemExit(main())
