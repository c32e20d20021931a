"""Slots that are taken, counted by the gateway itself.

Ollama shows neither its queue nor its busy slots, and LiteLLM counts a call several awaits after
the node was picked, so that a burst lands on one node. Here a slot is taken in the same
event-loop tick in which the node is chosen.
"""

from __future__ import annotations

from collections import Counter

__all__ = ["Reservation", "Reservations"]


class Reservations:
    """Requests that are out, by node and by node and model."""

    def __init__(self) -> None:
        self._by_node: Counter[str] = Counter()
        self._by_model: Counter[tuple[str, str]] = Counter()

    def reserve(self, node: str, model: str) -> Reservation:
        """Take a slot; it is taken until the reservation is released."""
        self._add(node, model, 1)
        return Reservation(self, node, model)

    def on_node(self, node: str) -> int:
        """Return how many requests a node has, of whatever model."""
        return self._by_node[node]

    def of_model(self, node: str, model: str) -> int:
        """Return how many requests a node has for one model."""
        return self._by_model[node, model]

    def _give_back(self, reservation: Reservation) -> None:
        self._add(reservation.node, reservation.model, -1)

    def _add(self, node: str, model: str, count: int) -> None:
        self._by_node[node] += count
        self._by_model[node, model] += count
        if not self._by_model[node, model]:
            del self._by_model[node, model]
        if not self._by_node[node]:
            del self._by_node[node]


class Reservation:
    """One taken slot. Releasing it twice gives it back once."""

    def __init__(self, book: Reservations, node: str, model: str) -> None:
        self.node = node
        self.model = model
        self._book: Reservations | None = book

    def release(self) -> None:
        """Give the slot back."""
        book, self._book = self._book, None
        if book is not None:
            book._give_back(self)  # noqa: SLF001 - one module, two halves of one thing
