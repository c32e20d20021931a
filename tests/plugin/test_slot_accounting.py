"""Slots: taken in the tick of the choice, given back in every outcome."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from gateway_process import ONE_SLOT_GPU, Gateway, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from simulated_node import SimulatedNode

pytestmark = pytest.mark.anyio

MODELS = ["llama3", "nomic-embed-text"]
LONG = "word " * 400


def gpu(node: SimulatedNode, **changes) -> dict:
    return {"address": node.address, "hardware": ONE_SLOT_GPU, **changes}


def chat(model: str = "llama3", text: str = "hi", **changes) -> dict:
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 4,
        **changes,
    }


@asynccontextmanager
async def asking(gateway: Gateway, *bodies: dict) -> AsyncIterator[list[asyncio.Task]]:
    """Send chats at the same time; what is still open at the end is abandoned."""
    headers = {"Authorization": f"Bearer {gateway.key}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=gateway.url, headers=headers, timeout=120, trust_env=False, limits=limits
    ) as client:
        tasks = [
            asyncio.create_task(client.post("/v1/chat/completions", json=body)) for body in bodies
        ]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def wait_until(truth, what: str) -> None:
    await asyncio.to_thread(eventually, truth, what)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_burst_is_spread_and_gives_all_slots_back(
    gateway: Gateway, make_nodes, stream: bool
) -> None:
    nodes = make_nodes(*[MODELS] * 3)
    gateway.use({f"n{number}": gpu(node) for number, node in enumerate(nodes)})
    for node in nodes:
        node.fault("hang")
    async with asking(gateway, *[chat(stream=stream)] * 30):
        await wait_until(lambda: sum(gateway.busy().values()) == 30, "30 requests are out")
        assert gateway.busy() == {"n0": 10, "n1": 10, "n2": 10}
    await wait_until(lambda: not any(gateway.busy().values()), "all slots are free")
    await wait_until(
        lambda: not any(node.state()["in_flight"] for node in nodes), "no node works for nobody"
    )


async def test_a_burst_is_answered(gateway: Gateway, make_nodes) -> None:
    nodes = make_nodes(*[MODELS] * 3, time_scale=0.05)
    gateway.use({f"n{number}": gpu(node) for number, node in enumerate(nodes)})
    async with asking(gateway, *[chat()] * 30) as tasks:
        answers = await asyncio.gather(*tasks)
    assert {answer.status_code for answer in answers} == {200}
    assert all(node.state()["served"] > 0 for node in nodes)


async def test_gpus_are_filled_by_tier_and_then_evenly(gateway: Gateway, make_nodes) -> None:
    big, small, cpu = make_nodes(*[MODELS] * 3)
    gateway.use(
        {
            "big": gpu(big, ollama={"num_parallel": 2}),
            "small": gpu(small, tier="secondary"),
            "cpu": {"address": cpu.address},
        }
    )
    for node in (big, small, cpu):
        node.fault("hang")
    for number, expected in enumerate(
        (
            {"big": 2, "small": 0, "cpu": 0},
            {"big": 2, "small": 1, "cpu": 0},
            {"big": 4, "small": 2, "cpu": 0},
        )
    ):
        count = sum(expected.values())
        async with asking(gateway, *[chat(text=LONG)] * count):
            await wait_until(lambda: sum(gateway.busy().values()) == count, f"step {number}")  # noqa: B023
            assert gateway.busy() == expected
        await wait_until(lambda: not any(gateway.busy().values()), "all slots are free")


@pytest.mark.parametrize(
    ("body", "node"),
    [
        (chat(), "cpu"),
        (chat(max_tokens=5000), "big"),
        (chat(text=LONG), "big"),
        (chat("llama3.2:1b", LONG, max_tokens=5000), "cpu"),
    ],
    ids=["short", "long answer", "long prompt", "a fast model"],
)
async def test_only_light_work_overflows_to_a_cpu(
    gateway: Gateway, make_nodes, body: dict, node: str
) -> None:
    models = ["llama3", "llama3.2:1b"]
    big, cpu = make_nodes(models, models)
    gateway.use(
        {"big": gpu(big, models=["llama3.2:1b"]), "cpu": {"address": cpu.address}},
        models={"llama3.2:1b": {"category": "fast"}},
    )
    assert gateway.ask("llama3").headers["x-jarvis-node"] == "big"
    big.fault("hang", count=1)
    async with asking(gateway, chat()):
        await wait_until(lambda: gateway.busy()["big"] == 1, "the GPU is busy")
        async with asking(gateway, body) as (task,):
            answer = await task
    assert answer.headers["x-jarvis-node"] == node


async def test_embeddings_overflow(gateway: Gateway, make_nodes) -> None:
    big, cpu = make_nodes(MODELS, MODELS)
    gateway.use({"big": gpu(big), "cpu": {"address": cpu.address}})
    big.fault("hang", count=1)
    async with asking(gateway, chat()):
        await wait_until(lambda: gateway.busy()["big"] == 1, "the GPU is busy")
        with gateway.client() as client:
            body = {"model": "nomic-embed-text", "input": LONG}
            answer = await asyncio.to_thread(client.post, "/v1/embeddings", json=body)
    assert answer.headers["x-jarvis-node"] == "cpu"


@pytest.mark.parametrize("mode", ["none", "http_500", "reset_after_headers", "reset_after_tokens"])
@pytest.mark.parametrize("stream", [False, True])
async def test_slots_come_back_whatever_the_end(
    gateway: Gateway, make_nodes, mode: str, stream: bool
) -> None:
    (node,) = make_nodes(MODELS)
    gateway.use({"big": gpu(node)})
    node.fault(mode, tokens=1)
    async with asking(gateway, *[chat(stream=stream)] * 3) as tasks:
        await asyncio.gather(*tasks)
    assert gateway.busy() == {"big": 0}


async def test_a_client_that_leaves_in_the_middle_of_a_stream_frees_node_and_slot(
    gateway: Gateway, make_nodes
) -> None:
    (node,) = make_nodes(MODELS, time_scale=1.0)
    gateway.use({"big": gpu(node)})
    with gateway.stream("llama3", max_tokens=100_000) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        assert gateway.busy() == {"big": 1}
    await wait_until(lambda: gateway.busy() == {"big": 0}, "the slot is free")
    await wait_until(lambda: node.state()["in_flight"] == 0, "the node has stopped")
