"""From a request for a model to one node with one slot taken, or to a refusal in plain words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from litellm_plugins.errors import ApiError
from litellm_plugins.names import display_model, nearest
from litellm_plugins.routing.candidates import Candidate, candidates, obstacle
from litellm_plugins.routing.choice import Choice, Wish, choose
from litellm_plugins.routing.nodes import NOT_ASKED, NodeStatus
from litellm_plugins.routing.reservations import Reservation, Reservations
from litellm_plugins.routing.suspicion import Suspicions
from litellm_plugins.schema import Fleet, Node, Role
from litellm_plugins.tuning import tuning_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Dispatcher"]


class Dispatcher:
    """The state that routing rests on, and the questions that a request asks of it.

    `fleet` returns the fleet as declared now; `statuses` is discovery's, by node, and changes.
    """

    def __init__(
        self,
        fleet: Callable[[], Fleet],
        statuses: Mapping[str, NodeStatus],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet = fleet
        self._statuses = statuses
        self._clock = clock
        self.reservations = Reservations()
        self.suspicions = Suspicions()

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The declared inference nodes."""
        return self._fleet().nodes_with(Role.INFERENCE)

    def status(self, node: str) -> NodeStatus:
        """Return what is known of a node."""
        return self._statuses.get(node, NOT_ASKED)

    def nodes_with(self, model: str) -> list[str]:
        """Return the nodes that have a model, well or not, by its canonical name."""
        return [node for node in self.nodes if model in self.status(node).models]

    def models(self) -> set[str]:
        """Return the canonical names of all models that any node has."""
        return {model for node in self.nodes for model in self.status(node).models}

    def longest_context(self, model: str) -> int:
        """Return the tokens of context of a model on the node that gives it most, 0 if none has it."""
        nodes = self.nodes
        lengths = (tuning_of(nodes[name]).context_length for name in self.nodes_with(model))
        return max(lengths, default=0)

    def check_model(self, model: str) -> None:
        """Check that some node has a model, well or not.

        Raises:
            ApiError: 404, with the nearest names.

        """
        if not self.nodes_with(model):
            raise ApiError(
                404, _unknown("model", display_model(model), self._shown()), param="model"
            )

    def admit(self, model: str, node: str | None) -> None:
        """Check that somebody can answer for a model, or the named node if one is named.

        Raises:
            ApiError: 404 for an unknown model or node, 400 for a node without the model, 503 if
                every node that has it is drained or does not answer.

        """
        if node is not None and node not in self.nodes:
            raise ApiError(404, _unknown("node", node, self.nodes), param="node")
        self.check_model(model)
        having = self.nodes_with(model)
        if node is not None and node not in having:
            raise ApiError(
                400,
                f"node {node!r} does not have {display_model(model)!r}; {_listed(having)} does",
                param="node",
            )
        asked = having if node is None else [node]
        if all(self._obstacle(model, name) for name in asked):
            reasons = "; ".join(f"{name} {self._obstacle(model, name)}" for name in asked)
            raise ApiError(503, f"no node can answer for {display_model(model)!r} now: {reasons}")

    def dispatch(self, model: str, wish: Wish) -> tuple[Choice, Reservation] | None:
        """Choose a node and take one of its slots; None if no node is left.

        There is no await between the two, so simultaneous requests see each other's slots.
        """
        choice = choose(self._candidates(model), wish)
        if choice is None:
            return None
        return choice, self.reservations.reserve(choice.node, model)

    def has_another(self, model: str, wish: Wish) -> bool:
        """Return whether a node is left for a request that failed on those it has tried."""
        return choose(self._candidates(model), wish) is not None

    def failed(self, node: str, model: str, took: float) -> None:
        """Note that an attempt failed after so many seconds, before its first token."""
        self.suspicions.suspect(node, model, self._clock(), took)

    def answered(self, node: str, model: str) -> None:
        """Note that an attempt brought a first token."""
        self.suspicions.clear(node, model)

    def _candidates(self, model: str) -> Iterator[Candidate]:
        return candidates(
            model,
            nodes=self.nodes,
            statuses=self._statuses,
            reservations=self.reservations,
            suspicions=self.suspicions,
            now=self._clock(),
        )

    def _obstacle(self, model: str, node: str) -> str | None:
        return obstacle(model, self.nodes[node], self.status(node))

    def _shown(self) -> list[str]:
        return sorted(display_model(model) for model in self.models())


def _unknown(kind: str, name: str, known: Mapping[str, Node] | list[str]) -> str:
    near = nearest(name, known)
    hint = f"; did you mean {_listed(near)}?" if near else ""
    return f"no {kind} {name!r} here{hint}"


def _listed(names: list[str]) -> str:
    return " or ".join(repr(name) for name in names)
