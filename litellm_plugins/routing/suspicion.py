"""The breaker: a model on a node that has just failed is passed over while another can answer.

Whether the node itself is up is discovery's to say. This is for what asking a node for its models
does not show: a model that cannot be loaded, a GPU that hangs, a request that was cut off a moment
before discovery found the node dead.
"""

from __future__ import annotations

__all__ = ["REST_SECONDS", "Suspicions"]

REST_SECONDS = 10.0
"""A failed pair of node and model rests at least so long, and at least as long as its failure took:
an attempt that hung for five minutes is not repeated after ten seconds."""


class Suspicions:
    """Pairs of node and model that failed, and until when each rests.

    Times are seconds of one monotonic clock, given by the caller.
    """

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}

    def suspect(self, node: str, model: str, now: float, took: float) -> None:
        """Let a pair rest after an attempt that failed and took so many seconds."""
        self._until[node, model] = now + max(REST_SECONDS, took)

    def is_suspect(self, node: str, model: str, now: float) -> bool:
        """Return whether a pair rests still."""
        return self._until.get((node, model), now) > now

    def clear(self, node: str, model: str) -> None:
        """Trust a pair again: it has answered."""
        self._until.pop((node, model), None)

    def clear_node(self, node: str) -> None:
        """Trust a node again: it is another process than the one that failed."""
        for pair in [pair for pair in self._until if pair[0] == node]:
            del self._until[pair]
