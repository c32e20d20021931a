"""The nodes that can take a request for a model, with what the choice among them needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from litellm_plugins.routing.nodes import NOT_ASKED, NodeStatus
from litellm_plugins.tuning import slots, tuning_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from litellm_plugins.routing.reservations import Reservations
    from litellm_plugins.routing.suspicion import Suspicions
    from litellm_plugins.schema import Node, Tier

__all__ = ["Candidate", "candidates", "obstacle"]


@dataclass(frozen=True)
class Candidate:
    """A node that is well, takes work and has the model.

    `slots` is how many requests it answers at a time for this model, `busy` how many of these are
    taken; more than `slots` means that requests wait at the node. Warm means that the model is in
    memory; suspect that it has just failed there.
    """

    node: str
    has_gpu: bool
    tier: Tier
    slots: int
    busy: int
    is_warm: bool
    is_suspect: bool = False

    @property
    def free(self) -> int:
        """Slots that a request can start in at once."""
        return max(self.slots - self.busy, 0)

    @property
    def load(self) -> float:
        """Requests per slot; 1 is full."""
        return self.busy / self.slots


def candidates(
    model: str,
    *,
    nodes: Mapping[str, Node],
    statuses: Mapping[str, NodeStatus],
    reservations: Reservations,
    suspicions: Suspicions,
    now: float,
) -> Iterator[Candidate]:
    """Yield the nodes that can take a request for a model, by its canonical name."""
    for name, node in nodes.items():
        status = statuses.get(name, NOT_ASKED)
        if obstacle(model, node, status) is not None:
            continue
        count, busy = _slots_of(model, name, node, status, reservations)
        yield Candidate(
            node=name,
            has_gpu=node.has_gpu,
            tier=node.effective_tier,
            slots=count,
            busy=busy,
            is_warm=model in status.loaded,
            is_suspect=suspicions.is_suspect(name, model, now),
        )


def obstacle(model: str, node: Node, status: NodeStatus) -> str | None:
    """Return why a node cannot take a request for a model, in words; None if it can."""
    if node.drain:
        return "is drained and takes no new work"
    if not status.is_well:
        return f"does not answer ({status.error})"
    if model not in status.models:
        return "does not have the model"
    return None


def _slots_of(
    model: str, name: str, node: Node, status: NodeStatus, reservations: Reservations
) -> tuple[int, int]:
    """Return a node's slots for a model and how many are taken.

    Models on one node share its processor, so requests for others count as well; a model that
    Ollama answers one at a time is full with its first request, however idle the node is.
    """
    tuning = tuning_of(node)
    own = slots(tuning, status.models[model].family)
    busy_with_it = reservations.of_model(name, model)
    busy = reservations.on_node(name)
    if own - busy_with_it < tuning.num_parallel - busy:
        return own, busy_with_it
    return tuning.num_parallel, busy
