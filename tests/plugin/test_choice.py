"""The choice of a node, as pure logic."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from litellm_plugins.routing.candidates import Candidate
from litellm_plugins.routing.choice import Wish, choose
from litellm_plugins.schema import Tier


def gpu(node: str = "gpu", **changes) -> Candidate:
    base = Candidate(node, has_gpu=True, tier=Tier.PRIMARY, slots=2, busy=0, is_warm=True)
    return replace(base, **changes)


def cpu(node: str = "cpu", **changes) -> Candidate:
    return gpu(node, **{"has_gpu": False, "tier": Tier.EDGE, "slots": 1, **changes})


def chosen(candidates: list[Candidate], wish: Wish = Wish()) -> str | None:  # noqa: B008 - frozen
    choice = choose(candidates, wish)
    return choice.node if choice else None


LIGHT = Wish(is_lightweight=True)

CASES = {
    "a GPU comes before a CPU": ([cpu(), gpu()], LIGHT, "gpu"),
    "the better tier comes first": (
        [gpu("second", tier=Tier.SECONDARY), gpu("first", is_warm=False)],
        Wish(),
        "first",
    ),
    "a free slot on a lesser tier beats waiting": (
        [gpu("first", busy=2), gpu("second", tier=Tier.SECONDARY, is_warm=False)],
        Wish(),
        "second",
    ),
    "within a tier a model in memory comes first": (
        [gpu("cold", is_warm=False), gpu("warm", busy=1)],
        Wish(),
        "warm",
    ),
    "then the lighter load": (
        [gpu("one", slots=2, busy=1), gpu("other", slots=4, busy=1)],
        Wish(),
        "other",
    ),
    "if all are full, fewer requests per slot": (
        [gpu("first", slots=1, busy=3), gpu("second", tier=Tier.SECONDARY, slots=2, busy=4)],
        Wish(),
        "second",
    ),
    "a CPU answers what no GPU node has": ([cpu()], Wish(), "cpu"),
    "a CPU takes light overflow": ([gpu(busy=2), cpu()], LIGHT, "cpu"),
    "a CPU takes no heavy overflow": ([gpu(busy=2), cpu()], Wish(), "gpu"),
    "a CPU without a free slot takes none either": ([gpu(busy=9), cpu(busy=1)], LIGHT, "gpu"),
    "a CPU does not relieve one GPU while another is free": (
        [gpu(busy=2), gpu("lesser", tier=Tier.EDGE, is_warm=False), cpu()],
        LIGHT,
        "lesser",
    ),
    "a node that has just failed is passed over": ([gpu(is_suspect=True), cpu()], Wish(), "cpu"),
    "unless there is no other": ([gpu(is_suspect=True)], Wish(), "gpu"),
    "what was tried is not tried again": ([gpu(), cpu()], Wish(tried=frozenset({"gpu"})), "cpu"),
    "nobody is left": ([gpu()], Wish(tried=frozenset({"gpu"})), None),
    "a named node is taken however busy": ([gpu(), cpu(busy=5)], Wish(node="cpu"), "cpu"),
    "a named node is taken though it has just failed": (
        [gpu(), cpu(is_suspect=True)],
        Wish(node="cpu"),
        "cpu",
    ),
    "no other is taken in place of a named one": ([gpu()], Wish(node="cpu"), None),
    "a named node is not tried twice": ([cpu()], Wish(node="cpu", tried=frozenset({"cpu"})), None),
}


@pytest.mark.parametrize(("candidates", "wish", "node"), CASES.values(), ids=CASES.keys())
def test_case(candidates: list[Candidate], wish: Wish, node: str | None) -> None:
    assert chosen(candidates, wish) == node
    assert chosen(candidates[::-1], wish) == node


def test_the_reason_says_what_the_choice_rests_on() -> None:
    overflow = choose([gpu(busy=2), cpu(is_warm=False)], LIGHT)
    assert overflow is not None
    assert overflow.reason == (
        "CPU node, as no GPU has a free slot and the request is lightweight, "
        "model to be loaded, 1 of 1 slots free"
    )


slots = st.integers(1, 4)
candidate = st.builds(
    Candidate,
    node=st.text("abcdef", min_size=1, max_size=3),
    has_gpu=st.booleans(),
    tier=st.sampled_from(Tier),
    slots=slots,
    busy=st.integers(0, 8),
    is_warm=st.booleans(),
    is_suspect=st.booleans(),
)
fleets = st.lists(candidate, max_size=6, unique_by=lambda item: item.node)
wishes = st.builds(
    Wish, is_lightweight=st.booleans(), tried=st.frozensets(st.text("abcdef", max_size=3))
)


@given(fleets, wishes)
def test_somebody_is_chosen_as_long_as_somebody_is_left(fleet: list[Candidate], wish: Wish) -> None:
    left = {item.node for item in fleet} - wish.tried
    node = chosen(fleet, wish)
    assert (node in left) if left else (node is None)


@given(fleets, wishes)
def test_a_cpu_is_chosen_only_for_want_of_a_gpu(fleet: list[Candidate], wish: Wish) -> None:
    by_name = {item.node: item for item in fleet}
    node = chosen(fleet, wish)
    assume(node is not None and not by_name[node].has_gpu)
    usable = [item for item in fleet if item.node not in wish.tried]
    trusted = [item for item in usable if not item.is_suspect] or usable
    gpus = [item for item in trusted if item.has_gpu]
    no_gpu_can_start = all(item.free == 0 for item in gpus)
    assert no_gpu_can_start
    if gpus:
        assert wish.is_lightweight
        assert by_name[node].free > 0


@given(fleets, wishes)
def test_nobody_waits_while_an_equal_has_a_free_slot(fleet: list[Candidate], wish: Wish) -> None:
    by_name = {item.node: item for item in fleet}
    node = chosen(fleet, wish)
    assume(node is not None and by_name[node].free == 0)
    rivals = [
        item
        for item in fleet
        if item.node not in wish.tried
        and item.is_suspect == by_name[node].is_suspect
        and item.has_gpu == by_name[node].has_gpu
    ]
    assert all(item.free == 0 for item in rivals)
