"""The choice among candidates.

The order: a node with a free slot before one without; GPU before CPU; the better tier; a model
in memory before one that must be loaded; fewer requests per slot. If nobody has a free slot, the one
with the fewest requests per slot comes first, so that a queue grows evenly.

A CPU node is in the comparison only if no GPU node can answer, or if no GPU node has a free slot, the
CPU node has one and the request is lightweight: a long answer from a CPU takes longer than the
wait for a GPU. A node that has just failed is in it only if there is no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from litellm_plugins.schema import Tier

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from litellm_plugins.routing.candidates import Candidate

__all__ = ["Choice", "Wish", "choose"]

_TIERS = {tier: position for position, tier in enumerate(Tier)}


@dataclass(frozen=True)
class Wish:
    """What a request asks of the choice.

    `node` is the one that the client named; `tried` are those that this request has failed on.
    """

    node: str | None = None
    is_lightweight: bool = False
    tried: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Choice:
    """The node that gets the request, and why, in words for the client."""

    node: str
    reason: str


def choose(candidates: Iterable[Candidate], wish: Wish) -> Choice | None:
    """Return the best candidate for a wish; None if there is none."""
    able = [item for item in candidates if item.node not in wish.tried]
    if wish.node is not None:
        return next(
            (Choice(wish.node, "asked for") for item in able if item.node == wish.node), None
        )
    trusted = [item for item in able if not item.is_suspect] or able
    admitted = [item for item in trusted if item.has_gpu]
    admitted += _admitted_cpus(trusted, admitted, wish)
    if not admitted:
        return None
    best = min(admitted, key=_rank)
    return Choice(best.node, _reason(best, admitted))


def _admitted_cpus(
    trusted: Sequence[Candidate], gpus: Sequence[Candidate], wish: Wish
) -> list[Candidate]:
    cpus = [item for item in trusted if not item.has_gpu]
    if not gpus:
        return cpus
    if not wish.is_lightweight or any(item.free for item in gpus):
        return []
    return [item for item in cpus if item.free]


def _rank(item: Candidate) -> tuple[float, ...]:
    tier = _TIERS[item.tier]
    if item.free:
        return (0, not item.has_gpu, tier, not item.is_warm, item.load)
    return (1, item.load, not item.has_gpu, tier, not item.is_warm)


def _reason(best: Candidate, admitted: Sequence[Candidate]) -> str:
    return ", ".join(
        (
            _kind(best, admitted),
            "model in memory" if best.is_warm else "model to be loaded",
            f"{best.free} of {best.slots} slots free",
        )
    )


def _kind(best: Candidate, admitted: Sequence[Candidate]) -> str:
    if best.has_gpu:
        return f"{best.tier.value} GPU node"
    if any(item.has_gpu for item in admitted):
        return "CPU node, as no GPU has a free slot and the request is lightweight"
    return "CPU node, as no GPU node can answer"
