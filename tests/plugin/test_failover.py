"""A node that fails before the first token is not noticed by the client.

The nodes are looked at every ten seconds here, so that it is the request that meets the fault.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from gateway_process import ONE_SLOT_GPU, Gateway, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from simulated_node import SimulatedNode

MODELS = ["llama3", "nomic-embed-text"]
ROUTING = {"refresh_seconds": 10, "first_token_timeout_seconds": 1}


def nodes_of(*nodes: SimulatedNode) -> dict:
    """Return GPU nodes named first, second ... of which the first is preferred."""
    names = ("first", "second", "third", "fourth")
    tiers = ("primary", "secondary", "edge", "edge")
    return {
        name: {"address": node.address, "tier": tier, "hardware": ONE_SLOT_GPU}
        for name, tier, node in zip(names, tiers, nodes, strict=False)
    }


@pytest.fixture
def pair(gateway: Gateway, make_nodes) -> tuple[SimulatedNode, SimulatedNode]:
    first, second = make_nodes(MODELS, MODELS)
    gateway.use(nodes_of(first, second), routing=ROUTING)
    return first, second


def chat(gateway: Gateway) -> httpx.Response:
    answer = gateway.ask("llama3")
    assert answer.json()["choices"][0]["message"]["content"]
    return answer


def chat_stream(gateway: Gateway) -> httpx.Response:
    with gateway.stream("llama3") as answer:
        events = list(answer.iter_lines())
    assert [line for line in events if line][-1] == "data: [DONE]"
    assert "error" not in "".join(events)
    return answer


def completion(gateway: Gateway) -> httpx.Response:
    return _post(gateway, "/v1/completions", model="llama3", prompt="Once", max_tokens=4)


def completion_stream(gateway: Gateway) -> httpx.Response:
    answer = _post(
        gateway, "/v1/completions", model="llama3", prompt="Once", max_tokens=4, stream=True
    )
    assert answer.text.strip().endswith("data: [DONE]")
    assert "error" not in answer.text
    return answer


def embedding(gateway: Gateway) -> httpx.Response:
    return _post(gateway, "/v1/embeddings", model="nomic-embed-text", input="Once")


def _post(gateway: Gateway, path: str, **body) -> httpx.Response:
    with gateway.client() as client:
        return client.post(path, json=body)


def refuse(node: SimulatedNode) -> None:
    node.fault("refuse", seconds=600)


def power_cut(node: SimulatedNode) -> None:
    node.stop()


def freeze(node: SimulatedNode) -> None:
    node.freeze()


def lose_models(node: SimulatedNode) -> None:
    for model in MODELS:
        node.remove(model)


def fault(mode: str) -> Callable[[SimulatedNode], None]:
    def switch(node: SimulatedNode) -> None:
        node.fault(mode)

    return switch


FAULTS = {
    "refuses connections": refuse,
    "is without power": power_cut,
    "accepts and is silent": freeze,
    "hangs on inference only": fault("hang"),
    "resets before headers": fault("reset_before_headers"),
    "resets after headers": fault("reset_after_headers"),
    "answers 500": fault("http_500"),
    "is busy": fault("busy"),
    "says it has no such model": fault("not_found"),
    "has lost the model": lose_models,
}


@pytest.mark.parametrize("ask", [chat, chat_stream, completion, completion_stream, embedding])
@pytest.mark.parametrize("fail", FAULTS.values(), ids=FAULTS.keys())
def test_another_node_answers(
    gateway: Gateway,
    pair: tuple[SimulatedNode, SimulatedNode],
    fail: Callable[[SimulatedNode], None],
    ask: Callable[[Gateway], httpx.Response],
) -> None:
    first, second = pair
    fail(first)
    answer = ask(gateway)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-jarvis-node"] == "second"
    assert answer.headers["x-jarvis-attempts"] == "2"
    assert answer.headers["x-jarvis-reason"].endswith("after first failed")
    again = ask(gateway)
    assert (again.headers["x-jarvis-node"], again.headers["x-jarvis-attempts"]) == ("second", "1")
    assert second.state()["served"] >= 2


def test_one_after_another_is_tried(gateway: Gateway, make_nodes) -> None:
    nodes = make_nodes(*[MODELS] * 4)
    gateway.use(nodes_of(*nodes), routing=ROUTING)
    for node, mode in zip(
        nodes, ("reset_before_headers", "busy", "reset_after_headers"), strict=False
    ):
        node.fault(mode)
    with gateway.stream("llama3") as answer:
        assert "data: [DONE]" in answer.read().decode()
    assert answer.headers["x-jarvis-node"] == "fourth"
    assert answer.headers["x-jarvis-attempts"] == "4"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("mode", "status"), [("http_500", 502), ("busy", 503), ("not_found", 404), ("hang", 504)]
)
def test_if_all_fail_the_client_learns_of_each(
    gateway: Gateway,
    pair: tuple[SimulatedNode, SimulatedNode],
    mode: str,
    status: int,
    stream: bool,
) -> None:
    for node in pair:
        node.fault(mode)
    answer = gateway.ask("llama3", stream=stream)
    assert answer.status_code == status
    message = answer.json()["error"]["message"]
    assert "first: " in message
    assert "second: " in message
    assert "litellm" not in message.lower()
    assert answer.headers["x-jarvis-attempts"] == "2"


def test_a_node_asked_for_is_not_replaced(
    gateway: Gateway, pair: tuple[SimulatedNode, SimulatedNode]
) -> None:
    pair[0].fault("http_500")
    answer = gateway.ask("llama3@first")
    assert answer.status_code == 502
    assert answer.headers["x-jarvis-attempts"] == "1"
    assert "llama-server process has terminated" in answer.json()["error"]["message"]


def test_a_cpu_node_steps_in_when_no_gpu_is_left(gateway: Gateway, make_nodes) -> None:
    first, cpu = make_nodes(MODELS, MODELS)
    gateway.use({**nodes_of(first), "cpu": {"address": cpu.address}}, routing=ROUTING)
    first.stop()
    answer = gateway.ask(
        "llama3", max_tokens=None, messages=[{"role": "user", "content": "[[tokens=9]]"}]
    )
    assert answer.headers["x-jarvis-node"] == "cpu"
    assert "no GPU node can answer" in answer.headers["x-jarvis-reason"]


def test_a_node_that_comes_back_is_used_again(gateway: Gateway, make_nodes) -> None:
    first, second = make_nodes(MODELS, MODELS)
    gateway.use(nodes_of(first, second))
    first.stop()
    eventually(lambda: not gateway.nodes()["first"]["well"], "the loss is seen")
    assert gateway.ask("llama3").headers["x-jarvis-node"] == "second"
    first.launch()
    eventually(
        lambda: gateway.ask("llama3").headers["x-jarvis-node"] == "first", "it is used again"
    )


def test_what_is_down_everywhere_is_503_and_still_listed(gateway: Gateway, make_nodes) -> None:
    (first,) = make_nodes(MODELS)
    gateway.use(nodes_of(first))
    first.stop()
    eventually(lambda: not gateway.nodes()["first"]["well"], "the loss is seen")
    answer = gateway.ask("llama3")
    assert answer.status_code == 503
    assert "first does not answer (no connection)" in answer.json()["error"]["message"]
    with gateway.client() as client:
        listed = {model["id"] for model in client.get("/v1/models").json()["data"]}
    assert listed == set(MODELS)


def test_after_the_first_token_the_stream_ends_with_an_error(gateway: Gateway, make_nodes) -> None:
    first, second = make_nodes(MODELS, MODELS, time_scale=2.0)
    gateway.use(nodes_of(first, second), routing={"refresh_seconds": 10})
    first.fault("reset_after_tokens", tokens=3)
    with gateway.stream("llama3", max_tokens=50) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert answer.headers["x-jarvis-node"] == "first"
    assert "error" in json.loads(lines[-1].removeprefix("data: "))
    assert second.state()["served"] == 0


@pytest.mark.anyio
async def test_requests_on_a_node_that_loses_its_power_do_not_wait_for_it(
    gateway: Gateway, make_nodes
) -> None:
    """Its connections stay open, as nobody is there to close them."""
    first, second = make_nodes(MODELS, MODELS, time_scale=1.0)
    nodes = nodes_of(first, second)
    nodes["first"]["ollama"] = {"num_parallel": 4}
    gateway.use(nodes, routing={"first_token_timeout_seconds": 3600})
    first.fault("hang", count=2)
    waiting = [asyncio.create_task(asyncio.to_thread(ask, gateway)) for ask in (chat, chat_stream)]
    await asyncio.to_thread(eventually, lambda: gateway.busy()["first"] == 2, "two are waiting")
    with gateway.stream("llama3", max_tokens=100_000) as begun:
        lines = (line for line in begun.iter_lines() if line)
        assert next(lines).startswith("data: ")
        first.freeze()
        last = await asyncio.to_thread(lambda: list(lines)[-1])
    assert "does not answer any more" in json.loads(last.removeprefix("data: "))["error"]["message"]
    for answer in await asyncio.gather(*waiting):
        assert answer.headers["x-jarvis-node"] == "second"
        assert answer.headers["x-jarvis-attempts"] == "2"
    first.thaw()
