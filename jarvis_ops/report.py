"""What went wrong, host by host, as the last thing on the screen."""

from __future__ import annotations

import atexit
import logging
import re
from typing import TYPE_CHECKING

import click
from pyinfra import logger
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.state import BaseStateCallback
from pyinfra.context import ctx_state
from typing_extensions import override

if TYPE_CHECKING:
    from pyinfra.api.host import Host
    from pyinfra.api.state import State

__all__ = ["fail", "install", "note", "watch"]

_reasons: dict[str, str] = {}

_HOST_ERROR = re.compile(r"^\s*\[(?P<host>[^\]]+)\]\s+(?P<text>\S.*)$", re.DOTALL)


class _ErrorLog(logging.Handler):
    """Keep the first error that pyinfra logs of each host.

    A host that cannot be connected to is reported by the log only: callbacks can be added once the
    state exists, and by then the connections have been made.
    """

    @override
    def emit(self, record: logging.LogRecord) -> None:
        found = _HOST_ERROR.match(click.unstyle(record.getMessage()))
        if found:
            _reasons.setdefault(found["host"], found["text"].strip())


class _FailedOperations(BaseStateCallback):
    @staticmethod
    def operation_host_error(
        state: State, host: Host, op_hash: str, retry_count: int = 0, max_retries: int = 0
    ) -> None:
        del retry_count, max_retries
        names = ", ".join(sorted(state.get_op_meta(op_hash).names))
        reason = _reasons.get(host.name)
        _reasons[host.name] = f"{names}: {reason}" if reason else f"failed at: {names}"


def install() -> None:
    """Note why hosts fail in this run, and say it when the process ends."""
    if not ctx_state.isset() or any(isinstance(item, _ErrorLog) for item in logger.handlers):
        return
    logger.addHandler(_ErrorLog(level=logging.ERROR))
    state = ctx_state.get()
    # Without -y pyinfra stops at every host that fails to ask whether to go on, and breaks where
    # there is no terminal. The plan is confirmed before anything is changed, so one question is
    # enough.
    if state.should_raise_failed_hosts is not None:
        state.should_raise_failed_hosts = _others_go_on
    atexit.register(_print, state)


def _others_go_on(_: State) -> bool:
    return False


def watch(state: State) -> None:
    """Note the operation at which a host fails; needs the state to be there."""
    if not any(isinstance(item, _FailedOperations) for item in state.callback_handlers):
        state.add_callback_handler(_FailedOperations())


def note(host: Host, reason: str) -> None:
    """Keep the reason for which a host is about to fail, where the log does not have it."""
    _reasons[host.name] = reason


def fail(state: State, host: Host, reason: str) -> None:
    """Fail one host with a sentence, before or between operations; the others go on."""
    _reasons[host.name] = reason
    logger.error(f"{host.print_prefix}{click.style(reason, 'red')}")
    try:
        state.fail_hosts({host})
    except PyinfraError:
        # That no host is left is plain from the summary, and is no error in the deploy's code.
        if state.active_hosts:
            raise


def _print(state: State) -> None:
    failed = sorted(host.name for host in getattr(state, "failed_hosts", ()))
    if not failed:
        return
    click.echo(f"--> {len(failed)} of {len(state.inventory)} hosts failed:", err=True)
    for name in failed:
        click.echo(f"    {name}: {_reasons.get(name, 'see its messages above')}", err=True)
