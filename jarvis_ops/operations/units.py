"""systemd units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyinfra.api import OperationValueError, QuoteString, StringCommand, operation
from pyinfra.context import host

from jarvis_ops.facts.snapshot import Question, ask, forget, question
from jarvis_ops.facts.units import UnitState, UnitStates

if TYPE_CHECKING:
    from collections.abc import Generator

    from pyinfra.api.command import PyinfraCommand

__all__ = ["running", "states", "without_drop_ins"]

_JOURNAL_LINES = 20


def states(*names: str) -> Question[dict[str, UnitState]]:
    """Return the question that `running` asks of each unit, to gather it ahead."""
    return question(UnitStates, names=names)


@operation()
def running(unit: str, marker: str) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that a service is enabled and runs in the form that its unit has now.

    What is compared is the running process, not whether this run changed a file: so a restart
    that an earlier run did not come to is made up for, and none happens without need.

    + unit: name of the unit, with its suffix
    + marker: value of JARVIS_UNIT in the unit's environment; another one in the running
      process means that it was started from an older form of the unit
    """
    if "." not in unit:
        raise OperationValueError(f"unit {unit!r} has no suffix; write e.g. {unit}.service")
    state = ask(host, states(unit)).get(unit, UnitState())
    # A process that was started before the files changed may have been started from others.
    is_current = (
        state.active == "active"
        and state.marker == marker
        and state.has_groups
        and not state.needs_reload
    )
    if is_current and state.enabled:
        host.noop(f"{unit} is enabled and runs in its present form")
        return
    yield StringCommand("systemctl", "daemon-reload")
    # Also where it is enabled: its unit may have got another [Install] section.
    yield StringCommand("systemctl", "enable", "--quiet", QuoteString(unit))
    if not is_current:
        yield _restart(unit)
    forget(host)


def _restart(unit: str) -> StringCommand:
    return StringCommand(
        *("systemctl", "reset-failed", QuoteString(unit), "2>/dev/null;"),
        *("systemctl", "restart", QuoteString(unit), "||"),
        *("{", "journalctl", "--no-pager", "-o", "cat", "-n", _JOURNAL_LINES),
        *("-u", QuoteString(unit), ">&2;", "exit", "1;", "}"),
    )


@operation()
def without_drop_ins(unit: str) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that no drop-ins of the machine change a unit that is ours; they are kept, renamed.

    + unit: name of the unit, with its suffix
    """
    drop_ins = ask(host, states(unit)).get(unit, UnitState()).drop_ins
    if not drop_ins:
        host.noop(f"no drop-ins change {unit}")
        return
    for path in drop_ins:
        yield StringCommand("mv", "-f", QuoteString(path), QuoteString(f"{path}.before-jarvis"))
    # systemd is not told here: what it has loaded shows whoever starts the unit that it changed.
    forget(host)
