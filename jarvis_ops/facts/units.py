"""systemd units."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

from jarvis_ops.facts.value import Value
from jarvis_ops.text import script

__all__ = ["UnitState", "UnitStates"]

_ABSENT = "not-found"


@dataclass(frozen=True)
class UnitState(Value):
    """What systemd says of a unit, and what its main process was started with.

    `marker` is JARVIS_UNIT in the environment of the running main process: which form of the
    unit it was started from, whatever files say by now. `has_groups` is false if its user was
    added to a group since. `drop_ins` are the administrator's files that change the unit.
    """

    exists: bool = False
    active: str = "inactive"
    enabled: bool = False
    needs_reload: bool = False
    marker: str | None = None
    has_groups: bool = True
    drop_ins: tuple[str, ...] = ()


class UnitStates(FactBase[dict[str, UnitState]]):
    """The state of several systemd units by name."""

    default = dict

    @override
    def command(self, names: tuple[str, ...]) -> str:
        return script("units.sh", names)

    @override
    def process(self, output: list[str]) -> dict[str, UnitState]:
        units: dict[str, list[tuple[str, str]]] = {}
        current: list[tuple[str, str]] = []
        for key, _, value in (line.partition("=") for line in output):
            if key == "unit":
                current = units.setdefault(value, [])
            current.append((key, value))
        return {name: _state(pairs) for name, pairs in units.items()}


def _state(pairs: list[tuple[str, str]]) -> UnitState:
    found = dict(pairs)
    return UnitState(
        exists=found.get("LoadState", _ABSENT) != _ABSENT,
        active=found.get("ActiveState", "inactive"),
        enabled=found.get("UnitFileState") == "enabled",
        needs_reload=found.get("NeedDaemonReload") == "yes",
        marker=found.get("JARVIS_UNIT") or None,
        has_groups=set(found.get("user_groups", "").split())
        <= set(found.get("has_groups", "").split()),
        drop_ins=tuple(value for key, value in pairs if key == "drop_in"),
    )
