"""What the gateway knows of a node, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NOT_ASKED", "NodeStatus", "PulledModel"]


@dataclass(frozen=True)
class PulledModel:
    """A model in a node's store.

    `name` is spelled as the node spells it; `size_bytes` is the size on disk; `modified` is Unix
    time in seconds; `capabilities` are Ollama's own words (`completion`, `embedding`, ...).
    """

    name: str
    digest: str
    family: str
    size_bytes: int
    modified: int
    capabilities: frozenset[str] = frozenset()


@dataclass(frozen=True)
class NodeStatus:
    """What a node said when it was last asked; of a node that does not answer, what it last had.

    `models` and `loaded` hold canonical names. `error` is why the node is not well, and
    `unwell_since` from when on, in seconds of the monotonic clock.
    """

    error: str | None = None
    unwell_since: float = 0.0
    version: str | None = None
    models: Mapping[str, PulledModel] = field(default_factory=dict)
    loaded: frozenset[str] = frozenset()

    @property
    def is_well(self) -> bool:
        """Whether the node answered when it was last asked."""
        return self.error is None


NOT_ASKED = NodeStatus(error="not asked yet")
