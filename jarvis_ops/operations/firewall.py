"""The live firewall."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyinfra.api import OperationValueError, QuoteString, StringCommand, operation
from pyinfra.context import host

from jarvis_ops.facts.firewall import Firewall, FirewallState
from jarvis_ops.facts.snapshot import Question, ask, forget, question
from jarvis_ops.facts.units import UnitState
from jarvis_ops.firewall import RECORD_FILE, TABLE, UNIT
from jarvis_ops.operations import units

if TYPE_CHECKING:
    from collections.abc import Generator

    from pyinfra.api.command import PyinfraCommand

__all__ = ["live", "loaded"]

_SHA256_DIGITS = 64


def loaded() -> Question[Firewall]:
    """Return the question that `live` asks besides the unit's state, to gather it ahead."""
    return question(FirewallState, record=RECORD_FILE, table=TABLE)


@operation()
def live(rules_sha256: str) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that the kernel has our rules, now and after a boot. Connections go on meanwhile.

    + rules_sha256: checksum of the file of rules
    """
    if len(rules_sha256) != _SHA256_DIGITS:
        raise OperationValueError(f"{rules_sha256!r} is not a sha256 of 64 hex digits")
    rules = ask(host, loaded())
    unit = ask(host, units.states(UNIT)).get(UNIT, UnitState())
    is_live = unit.active == "active" and rules.file == rules_sha256 and rules.is_untouched
    if is_live and unit.enabled and not unit.needs_reload:
        host.noop("the rules are live")
        return
    yield StringCommand("systemctl", "daemon-reload")
    # Also where it is enabled: the unit may have got another [Install] section.
    yield StringCommand("systemctl", "enable", "--quiet", QuoteString(UNIT))
    if not is_live:
        yield StringCommand("systemctl", "reload-or-restart", QuoteString(UNIT))
    forget(host)
