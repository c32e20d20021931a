"""From the state of the fleet to a node with a slot taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_plugins.errors import ApiError
from litellm_plugins.routing.choice import Wish
from litellm_plugins.routing.dispatch import Dispatcher
from litellm_plugins.routing.nodes import NodeStatus, PulledModel
from litellm_plugins.routing.suspicion import REST_SECONDS
from litellm_plugins.schema import Fleet, load_fleet

LLAMA, NOMIC = "llama3:latest", "nomic-embed-text:latest"
GPU = {"gpu": "nvidia", "memory_gib": 64, "vram_gib": 24}


def pulled(model: str, family: str = "llama") -> PulledModel:
    return PulledModel(model, digest="", family=family, size_bytes=1, modified=0)


def fleet_of(**nodes) -> Fleet:
    numbered = {
        name: {"address": f"10.0.0.{number}", **node}
        for number, (name, node) in enumerate(nodes.items(), start=2)
    }
    brain = {"address": "10.0.0.1", "roles": ["gateway"]}
    return load_fleet({"ollama": {"version": "0.34.2"}, "nodes": {"brain": brain, **numbered}})


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class World:
    """Two GPU nodes with four slots each and a CPU node, all well and with both models."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.fleet = fleet_of(
            big={"hardware": GPU}, small={"hardware": GPU, "tier": "secondary"}, cpu={}
        )
        models = {LLAMA: pulled(LLAMA), NOMIC: pulled(NOMIC, "nomic-bert")}
        self.statuses = {name: NodeStatus(models=models) for name in ("big", "small", "cpu")}
        self.dispatcher = Dispatcher(lambda: self.fleet, self.statuses, self.clock)

    def dispatch(self, model: str = LLAMA, wish: Wish = Wish()) -> str | None:  # noqa: B008 - frozen
        found = self.dispatcher.dispatch(model, wish)
        return found[0].node if found else None


@pytest.fixture
def world() -> World:
    return World()


def test_the_slot_is_taken_with_the_choice(world: World) -> None:
    taken = [world.dispatch() for _ in range(9)]
    assert taken == ["big"] * 4 + ["small"] * 4 + ["big"]


def test_requests_for_another_model_count_too(world: World) -> None:
    world.statuses["big"] = NodeStatus(
        models={LLAMA: pulled(LLAMA), "phi3:latest": pulled("phi3:latest")}
    )
    assert [world.dispatch("phi3:latest") for _ in range(4)] == ["big"] * 4
    assert world.dispatch(LLAMA) == "small"


def test_a_model_that_is_answered_one_at_a_time_is_full_with_one(world: World) -> None:
    light = Wish(is_lightweight=True)
    assert [world.dispatch(NOMIC, light) for _ in range(4)] == ["big", "small", "cpu", "big"]


@pytest.mark.parametrize(
    "status", [NodeStatus(error="refused", models={LLAMA: pulled(LLAMA)}), NodeStatus()]
)
def test_a_node_that_is_down_or_lacks_the_model_gets_nothing(
    world: World, status: NodeStatus
) -> None:
    world.statuses["big"] = status
    assert world.dispatch() == "small"
    assert world.dispatch(wish=Wish(node="big")) is None


def test_a_drained_node_gets_nothing(world: World) -> None:
    world.fleet = fleet_of(big={"hardware": GPU, "drain": True}, small={"hardware": GPU}, cpu={})
    assert world.dispatch() == "small"
    with pytest.raises(ApiError, match="big is drained") as caught:
        world.dispatcher.admit(LLAMA, "big")
    assert caught.value.status == 503


def test_a_failure_lets_a_node_rest_as_long_as_it_took(world: World) -> None:
    world.dispatcher.failed("big", LLAMA, took=300.0)
    assert world.dispatch() == "small"
    world.clock.now += 299.0
    assert world.dispatch() == "small"
    world.clock.now += 2.0
    assert world.dispatch() == "big"


def test_a_quick_failure_lets_it_rest_too(world: World) -> None:
    world.dispatcher.failed("big", LLAMA, took=0.01)
    world.clock.now += REST_SECONDS - 1
    assert world.dispatch() == "small"
    world.clock.now += 2
    assert world.dispatch() == "big"


def test_only_the_model_that_failed_rests(world: World) -> None:
    world.dispatcher.failed("big", LLAMA, took=1.0)
    assert world.dispatch(NOMIC) == "big"


def test_an_answer_ends_the_rest(world: World) -> None:
    world.dispatcher.failed("big", LLAMA, took=1.0)
    world.dispatcher.answered("big", LLAMA)
    assert world.dispatch() == "big"


def test_a_node_that_comes_back_is_trusted(world: World) -> None:
    world.dispatcher.failed("big", LLAMA, took=1.0)
    world.dispatcher.suspicions.clear_node("big")
    assert world.dispatch() == "big"


REFUSALS = {
    "unknown model": ("lama3:latest", None, 404, "no model 'lama3' here; did you mean 'llama3'?"),
    "unlike anything": ("zzz:latest", None, 404, "no model 'zzz' here"),
    "unknown node": (LLAMA, "bigg", 404, "no node 'bigg' here; did you mean 'big'?"),
    "the gateway is no node": (LLAMA, "brain", 404, "no node 'brain' here"),
    "node without the model": (
        "phi3:latest",
        "big",
        400,
        "node 'big' does not have 'phi3'; 'cpu' does",
    ),
}


@pytest.mark.parametrize(
    ("model", "node", "status", "message"), REFUSALS.values(), ids=REFUSALS.keys()
)
def test_refusal(world: World, model: str, node: str | None, status: int, message: str) -> None:
    known = dict(world.statuses["cpu"].models)
    world.statuses["cpu"] = NodeStatus(models={**known, "phi3:latest": pulled("phi3:latest")})
    with pytest.raises(ApiError) as caught:
        world.dispatcher.admit(model, node)
    assert (caught.value.status, caught.value.message) == (status, message)


def test_a_model_whose_nodes_are_all_down_is_known_and_not_to_be_had(world: World) -> None:
    for name, status in list(world.statuses.items()):
        world.statuses[name] = NodeStatus(error="connection refused", models=status.models)
    with pytest.raises(ApiError) as caught:
        world.dispatcher.admit(LLAMA, None)
    assert caught.value.status == 503
    assert "big does not answer (connection refused)" in caught.value.message


names = st.sampled_from(["big", "small", "cpu"])
events = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.booleans()),
        st.tuples(st.just("end"), st.integers(0, 5)),
        st.tuples(st.just("down"), names),
        st.tuples(st.just("up"), names),
        st.tuples(st.just("failed"), names),
    ),
    max_size=40,
)


@given(events)
def test_whatever_happens_slots_return_and_no_unwell_node_gets_work(story) -> None:
    world = World()
    models = world.statuses["big"].models
    held = []
    for event, detail in story:
        if event == "ask":
            found = world.dispatcher.dispatch(LLAMA, Wish(is_lightweight=detail))
            well = {name for name, status in world.statuses.items() if status.is_well}
            assert (found[0].node in well) if found else not well
            held += [found[1]] if found else []
        elif event == "end" and held:
            held.pop(detail % len(held)).release()
        elif event == "down":
            world.statuses[detail] = NodeStatus(error="down", models=models)
        elif event == "up":
            world.statuses[detail] = NodeStatus(models=models)
        elif event == "failed":
            world.dispatcher.failed(detail, LLAMA, took=1.0)
    for reservation in held:
        reservation.release()
    assert all(world.dispatcher.reservations.on_node(name) == 0 for name in world.statuses)
