"""What went wrong, host by host, as the last thing on the screen."""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING

import click
from pyinfra import logger
from pyinfra.api.state import BaseStateCallback
from pyinfra.context import ctx_state

if TYPE_CHECKING:
    from pyinfra.api.exceptions import ConnectError
    from pyinfra.api.host import Host
    from pyinfra.api.state import State

__all__ = ["fail", "install"]

_reasons: dict[str, str] = {}


class _Recorder(BaseStateCallback):
    @staticmethod
    def host_connect_error(state: State, host: Host, error: ConnectError) -> None:
        del state
        _reasons.setdefault(host.name, f"could not connect: {error}")

    @staticmethod
    def operation_host_error(
        state: State, host: Host, op_hash: str, retry_count: int = 0, max_retries: int = 0
    ) -> None:
        del retry_count, max_retries
        names = ", ".join(sorted(state.get_op_meta(op_hash).names))
        _reasons.setdefault(host.name, f"failed at: {names}")


def install() -> None:
    """Record why hosts fail in this run, and say it when the process ends."""
    if not ctx_state.isset():
        return
    state: State = ctx_state.get()
    if any(isinstance(handler, _Recorder) for handler in state.callback_handlers):
        return
    state.add_callback_handler(_Recorder())
    atexit.register(_print, state)


def fail(state: State, host: Host, reason: str) -> None:
    """Fail one host with a sentence, before or between operations; the others go on."""
    logger.error(f"{host.print_prefix}{click.style(reason, 'red')}")
    _reasons.setdefault(host.name, reason)
    state.fail_hosts({host})


def _print(state: State) -> None:
    failed = sorted(host.name for host in getattr(state, "failed_hosts", ()))
    if not failed:
        return
    total = len(state.inventory)
    click.echo(f"--> {len(failed)} of {total} hosts failed; the others are done:", err=True)
    for name in failed:
        click.echo(f"    {name}: {_reasons.get(name, 'see its messages above')}", err=True)
