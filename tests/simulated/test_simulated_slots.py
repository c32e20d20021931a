"""What one loaded model does with several requests, and what its slots remember."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from simulated_server import Held, Request, Server, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG = " ".join(f"word{number}" for number in range(600))
BODY = {"model": "llama3", "messages": [{"role": "user", "content": "Hello"}]}
OTHER = " ".join(f"thing{number}" for number in range(600))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=12) as threads:
        yield threads


def cached(server: Server, text: str) -> int:
    """Ask, and return how many tokens of the prompt were in a cache already."""
    before = server.state()["loaded"]
    said = server.chat("llama3", text, options={"num_predict": 1})
    assert said.status_code == 200
    (after,) = server.state()["loaded"]
    return after["cached_tokens"] - (before[0]["cached_tokens"] if before else 0)


@pytest.mark.parametrize("slots", [1, 3])
def test_as_many_requests_as_slots_run_and_the_others_wait(tmp_path: Path, slots: int) -> None:
    with running_server(tmp_path, time_scale=0.1, OLLAMA_NUM_PARALLEL=str(slots)) as server:
        held = [Held(server, "llama3") for _ in range(slots)]
        waiting = [Request(server, "/api/chat", **BODY) for _ in range(4)]
        server.eventually(lambda state: state["loaded"][0]["waiting"] == 4)
        assert server.state()["loaded"][0]["busy"] == slots
        held[0].leave()
        for request in waiting:
            request.read_until(b'"done":true')
        for request in (*waiting, *held[1:]):
            request.leave()


def test_waiting_requests_are_served_in_order(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    with running_server(tmp_path, time_scale=0.1) as server:
        held = Held(server, "llama3")
        asked = []
        for count in range(1, 5):
            asked.append(pool.submit(server.chat, "llama3"))
            server.eventually(lambda state, count=count: state["loaded"][0]["waiting"] == count)
        held.leave()
        ended = [item.result().json()["created_at"] for item in asked]
        assert ended == sorted(ended)


def test_wait_for_a_slot_is_in_the_total_and_not_in_the_load(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    with running_server(tmp_path, time_scale=0.1) as server:
        held = Held(server, "llama3")
        asked = pool.submit(server.chat, "llama3")
        server.eventually(lambda state: state["loaded"][0]["waiting"] == 1)
        held.leave()
        said = asked.result().json()
        own = said["load_duration"] + said["prompt_eval_duration"] + said["eval_duration"]
        assert said["total_duration"] - own > said["load_duration"]


def test_embedding_model_has_one_slot(tmp_path: Path) -> None:
    with running_server(tmp_path, ["nomic-embed-text"], OLLAMA_NUM_PARALLEL="4") as server:
        server.post("/api/embed", model="nomic-embed-text", input="x")
        assert server.state()["loaded"][0]["slots"] == 1


def test_client_that_leaves_frees_its_slot(tmp_path: Path) -> None:
    with running_server(tmp_path, time_scale=0.2) as server:
        held = Held(server, "llama3")
        assert server.state()["loaded"][0]["busy"] == 1
        held.leave()
        state = server.eventually(lambda state: state["in_flight"] == 0)
        assert state["loaded"][0]["busy"] == 0


def test_common_beginning_is_counted_and_not_evaluated_again(tmp_path: Path) -> None:
    with running_server(tmp_path, time_scale=1.0) as server:
        cold = server.chat("llama3", LONG, options={"num_predict": 1}).json()
        warm = server.chat("llama3", f"{LONG} and more", options={"num_predict": 1}).json()
        (model,) = server.state()["loaded"]
        assert warm["prompt_eval_count"] > cold["prompt_eval_count"] > 1000
        assert model["cached_tokens"] > 1000
        assert warm["prompt_eval_duration"] < cold["prompt_eval_duration"]


def test_next_turn_of_a_conversation_finds_the_answer_in_the_cache(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        question = {"role": "user", "content": "Tell me [[tokens=300]]"}
        body = {"model": "llama3", "stream": False}
        first = server.post("/api/chat", messages=[question], **body).json()
        turns = [question, first["message"], {"role": "user", "content": "And then?"}]
        server.post("/api/chat", messages=turns, **body)
        (model,) = server.state()["loaded"]
        assert model["cached_tokens"] >= first["prompt_eval_count"] + 300


@pytest.mark.parametrize(("memory", "is_kept"), [("0", False), ("8192", True)])
def test_displaced_prompt_is_kept_in_memory_if_there_is_any(
    tmp_path: Path, memory: str, *, is_kept: bool
) -> None:
    with running_server(tmp_path, LLAMA_ARG_CACHE_RAM=memory) as server:
        assert cached(server, LONG) == 0
        assert cached(server, OTHER) < 10
        assert (cached(server, LONG) > 1000) is is_kept


def test_each_slot_keeps_a_conversation_of_its_own(tmp_path: Path) -> None:
    with running_server(tmp_path, OLLAMA_NUM_PARALLEL="2", LLAMA_ARG_CACHE_RAM="0") as server:
        assert cached(server, LONG) == 0
        assert cached(server, OTHER) < 10
        assert cached(server, f"{LONG} on") > 1000
        assert cached(server, f"{OTHER} on") > 1000
