"""One request's way through the gateway, visible wherever LiteLLM calls us back.

LiteLLM's callbacks do not pair up for every outcome, so what must be given back is kept here and
given back by the outermost layer, which ends exactly once.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from litellm_plugins.routing.choice import Choice, Wish

if TYPE_CHECKING:
    from litellm_plugins.routing.reservations import Reservation

__all__ = ["RECORD", "Attempt", "Failure", "Record"]


@dataclass(frozen=True)
class Failure:
    """An attempt that ended before its first token, with the HTTP status that LiteLLM made of it."""

    node: str
    status: int
    message: str


@dataclass(frozen=True)
class Attempt:
    """A node that was chosen for the request, with the slot that was taken on it."""

    choice: Choice
    reservation: Reservation


@dataclass
class Record:
    """What is known of a request so far.

    `owner` is the name of its key, `named_node` the node that its header names. `model` is the
    canonical name, once it is resolved. `failures` are the attempts before the current one.
    """

    owner: str
    named_node: str | None = None
    model: str | None = None
    wish: Wish = field(default_factory=Wish)
    attempt: Attempt | None = None
    failures: list[Failure] = field(default_factory=list)

    def take(self, choice: Choice, reservation: Reservation) -> None:
        """Move the request to a node, giving back the slot that it had before."""
        self.release()
        self.attempt = Attempt(choice, reservation)

    def release(self) -> None:
        """Give back the slot, if one is taken."""
        if self.attempt is not None:
            self.attempt.reservation.release()

    def fail(self, status: int, message: str) -> None:
        """Note that the current attempt failed; its node is not tried again."""
        if self.attempt is None:
            return
        failed = Failure(self.attempt.choice.node, status, message)
        self.attempt = None
        self.failures.append(failed)
        self.wish = replace(self.wish, tried=self.wish.tried | {failed.node})

    @property
    def attempts(self) -> int:
        """Nodes that were tried, the current one included."""
        return len(self.failures) + (self.attempt is not None)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that tell the client where its request went, and why."""
        told = {"x-jarvis-attempts": str(self.attempts)}
        if self.attempt is not None:
            told["x-jarvis-node"] = self.attempt.choice.node
            told["x-jarvis-reason"] = self._reason(self.attempt.choice)
        elif self.failures:
            told["x-jarvis-node"] = self.failures[-1].node
            told["x-jarvis-reason"] = "no other node is left"
        return [(name.encode(), value.encode("latin-1")) for name, value in told.items()]

    def _reason(self, choice: Choice) -> str:
        if not self.failures:
            return choice.reason
        failed = ", ".join(failure.node for failure in self.failures)
        return f"{choice.reason}, after {failed} failed"


RECORD: ContextVar[Record] = ContextVar("jarvis_record")
