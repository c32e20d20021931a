"""The fleet file changes while the gateway runs; no open stream is cut."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from gateway_process import ONE_SLOT_GPU, Gateway, eventually

from litellm_plugins.auth import key_hash
from litellm_plugins.keys import new_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

MODELS = ["llama3"]
SLOW = 3.0


def gpu(node, **changes) -> dict:
    return {"address": node.address, "hardware": ONE_SLOT_GPU, **changes}


@contextmanager
def long_stream(gateway: Gateway) -> Iterator[tuple[httpx.Response, Iterator[str]]]:
    """Ask for a stream that takes longer than what happens under it; yield the rest of its lines."""
    text = [{"role": "user", "content": "[[tokens=150]]"}]
    with gateway.stream("llama3", messages=text, max_tokens=150) as answer:
        lines = (line for line in answer.iter_lines() if line)
        assert next(lines).startswith("data: ")
        yield answer, lines


def test_nodes_come_and_go_under_an_open_stream(gateway: Gateway, make_nodes) -> None:
    (old,) = make_nodes(MODELS, time_scale=SLOW)
    (new,) = make_nodes(MODELS)
    gateway.use({"old": gpu(old)})
    with long_stream(gateway) as (_, lines):
        gateway.use({"old": gpu(old), "new": gpu(new)})
        assert gateway.ask("llama3@new").status_code == 200
        gateway.use({"new": gpu(new)})
        assert gateway.ask("llama3@old").status_code == 404
        assert gateway.ask("llama3").headers["x-jarvis-node"] == "new"
        assert old.state()["in_flight"] == 1
        assert list(lines)[-1] == "data: [DONE]"


def test_a_drained_node_ends_its_work_and_takes_no_more(gateway: Gateway, make_nodes) -> None:
    (first,) = make_nodes(MODELS, time_scale=SLOW)
    (second,) = make_nodes(MODELS)
    nodes = {"first": gpu(first), "second": gpu(second, tier="secondary")}
    gateway.use(nodes)
    with long_stream(gateway) as (answer, lines):
        assert answer.headers["x-jarvis-node"] == "first"
        gateway.write(gateway.fleet({**nodes, "first": gpu(first, drain=True)}))
        eventually(lambda: gateway.nodes()["first"]["drain"], "the order is taken up")
        assert gateway.ask("llama3").headers["x-jarvis-node"] == "second"
        refused = gateway.ask("llama3@first")
        assert refused.status_code == 503
        assert "first is drained" in refused.json()["error"]["message"]
        assert gateway.busy()["first"] == 1
        assert list(lines)[-1] == "data: [DONE]"
    eventually(lambda: gateway.busy()["first"] == 0, "the drained node is empty")


@pytest.mark.parametrize("text", ["{", '{"nodes": {}}', ""])
def test_a_broken_file_changes_nothing(gateway: Gateway, make_nodes, text: str) -> None:
    (node,) = make_nodes(MODELS)
    gateway.use({"big": gpu(node)})
    before = gateway.log.count("the last good fleet stays")
    gateway.write(text)
    eventually(
        lambda: gateway.log.count("the last good fleet stays") > before, "the error is in the log"
    )
    assert gateway.ask("llama3").headers["x-jarvis-node"] == "big"


def test_a_node_that_moves_is_followed(gateway: Gateway, make_nodes) -> None:
    here, there = make_nodes(MODELS, MODELS)
    gateway.use({"big": gpu(here)})
    assert gateway.ask("llama3").status_code == 200
    gateway.use({"big": gpu(there)})
    assert gateway.ask("llama3").headers["x-jarvis-attempts"] == "1"
    assert (here.state()["served"], there.state()["served"]) == (1, 1)


def test_keys_come_and_go(gateway: Gateway, make_nodes) -> None:
    (node,) = make_nodes(MODELS)
    bob = new_key()
    alice = {"alice": {"sha256": key_hash(gateway.key)}}

    def status() -> int:
        with gateway.client(headers={"Authorization": f"Bearer {bob}"}) as client:
            return client.get("/v1/models").status_code

    gateway.use({"big": gpu(node)})
    assert status() == 401
    both = {**alice, "bob": {"sha256": key_hash(bob)}}
    gateway.write(gateway.fleet({"big": gpu(node)}, keys=both))
    eventually(lambda: status() == 200, "the new key is known")
    gateway.write(gateway.fleet({"big": gpu(node)}, keys=alice))
    eventually(lambda: status() == 401, "the old key is forgotten")


def test_models_pulled_and_removed_by_hand_are_seen(gateway: Gateway, make_nodes) -> None:
    (node,) = make_nodes(MODELS)
    gateway.use({"big": gpu(node)})

    def listed() -> set[str]:
        with gateway.client() as client:
            return {model["id"] for model in client.get("/v1/models").json()["data"]}

    node.pull("phi3")
    eventually(lambda: listed() == {"llama3", "phi3"}, "the new model is listed")
    node.remove("llama3")
    eventually(lambda: listed() == {"phi3"}, "the removed model is not")
    assert gateway.ask("llama3").status_code == 404
