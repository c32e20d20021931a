"""The live firewall."""

from __future__ import annotations

from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

from jarvis_ops.facts.value import Value
from jarvis_ops.text import script

__all__ = ["Firewall", "FirewallState"]


@dataclass(frozen=True)
class Firewall(Value):
    """The rules in the kernel.

    `file` is the sha256 of the file that they were loaded from, None if they never were;
    `is_untouched` is false if somebody has changed or flushed the table since.
    """

    file: str | None = None
    is_untouched: bool = False


class FirewallState(FactBase[Firewall]):
    """Which rules are live, by the record that the firewall's unit writes when it loads them."""

    default = Firewall

    @override
    def command(self, record: str, table: str) -> str:
        return script("firewall.sh", (record, table))

    @override
    def process(self, output: list[str]) -> Firewall:
        found = dict(line.partition("=")[::2] for line in output)
        return Firewall(found.get("file") or None, "untouched" in found)
