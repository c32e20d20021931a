"""Loads, evictions, keep-alive: who is in memory, and who waits for it.

Order is made certain by faults and by the server's own state, never by sleeping.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
from simulated_server import Held, Request, Server, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=12) as threads:
        yield threads


def loaded_names(server: Server) -> list[str]:
    return [item["model"] for item in server.state()["loaded"]]


def seconds_left(model: dict[str, str]) -> float:
    expires = datetime.fromisoformat(f"{model['expires_at'][:19]}+00:00")
    return (expires - datetime.now(timezone.utc)).total_seconds()


def test_ps_describes_what_is_loaded(tmp_path: Path) -> None:
    with running_server(tmp_path, OLLAMA_CONTEXT_LENGTH="4096", OLLAMA_NUM_PARALLEL="2") as server:
        server.chat("llama3")
        model = server.running()["llama3:latest"]
        assert set(model) == {
            *("name", "model", "size", "digest", "details", "expires_at", "size_vram"),
            "context_length",
        }
        assert model["context_length"] == 4096
        assert model["size"] == model["size_vram"] > 4.66e9 + 2 * 4096 * 131072
        assert 240 < seconds_left(model) <= 300


def test_context_is_at_most_what_the_model_was_trained_for(tmp_path: Path) -> None:
    with running_server(tmp_path, OLLAMA_CONTEXT_LENGTH="100000") as server:
        server.chat("llama3")
        assert server.running()["llama3:latest"]["context_length"] == 8192


@pytest.mark.parametrize(
    ("profile", "tokens"), [("strix-halo", 262144), ("nvidia", 32768), ("cpu", 4096)]
)
def test_context_by_default_follows_the_memory(tmp_path: Path, profile: str, tokens: int) -> None:
    with running_server(tmp_path, ["some:1b"], profile=profile) as server:
        assert f"default_num_ctx={tokens}" in server.has_logged("vram-based default context")


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [("30m", 1700, 1800), (600, 500, 600), (-1, 9e9, 1e10), ("-1s", 9e9, 1e10)],
)
def test_keep_alive_of_a_request(tmp_path: Path, given: object, least: float, most: float) -> None:
    with running_server(tmp_path) as server:
        server.chat("llama3", keep_alive=given)
        assert least < seconds_left(server.running()["llama3:latest"]) <= most
        server.chat("llama3")
        assert least < seconds_left(server.running()["llama3:latest"]) <= most


def test_keep_alive_of_the_environment(tmp_path: Path) -> None:
    with running_server(tmp_path, OLLAMA_KEEP_ALIVE="2h") as server:
        server.post("/v1/chat/completions", model="llama3", messages=HELLO)
        assert 7000 < seconds_left(server.running()["llama3:latest"]) <= 7200


def test_model_leaves_when_its_time_is_over(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        server.chat("llama3", keep_alive=0.05)
        server.eventually(lambda state: not state["loaded"])
        assert server.running() == {}


def test_zero_keep_alive_unloads_after_the_answer(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        server.chat("llama3", keep_alive=0)
        server.eventually(lambda state: not state["loaded"])
        assert server.state()["loads"] == 1


def test_other_context_reloads_and_sampling_does_not(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        server.chat("llama3")
        server.chat("llama3", options={"temperature": 0, "seed": 1, "num_predict": 1})
        assert server.state()["loads"] == 1
        server.chat("llama3", options={"num_ctx": 2048})
        assert server.state()["loads"] == 2
        assert server.running()["llama3:latest"]["context_length"] == 2048
        server.post("/v1/chat/completions", model="llama3", messages=HELLO)
        assert server.state()["loads"] == 3
        server.chat("llama3", shift=False)
        assert server.state()["loads"] == 4


def test_reload_waits_for_the_running_request(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    with running_server(tmp_path, time_scale=0.01) as server:
        held = Held(server, "llama3")
        other = pool.submit(server.chat, "llama3", options={"num_ctx": 2048})
        server.eventually(lambda state: state["in_flight"] == 2)
        assert server.running()["llama3:latest"]["context_length"] == 8192
        held.leave()
        assert other.result().status_code == 200
        assert server.running()["llama3:latest"]["context_length"] == 2048


def test_one_model_too_many_evicts_the_one_with_the_shortest_keep_alive(tmp_path: Path) -> None:
    models = ["llama3", "mistral", "gemma2"]
    with running_server(tmp_path, models, OLLAMA_MAX_LOADED_MODELS="2") as server:
        server.chat("llama3", keep_alive="1h")
        server.chat("mistral", keep_alive="10m")
        server.chat("gemma2")
        assert set(loaded_names(server)) == {"llama3:latest", "gemma2:latest"}


def test_three_models_by_default(tmp_path: Path) -> None:
    models = [f"model{number}:1b" for number in range(4)]
    with running_server(tmp_path, models, profile="cpu") as server:
        for model in models:
            server.chat(model)
        assert len(loaded_names(server)) == 3
        assert models[-1] in loaded_names(server)


def test_idle_model_is_evicted_rather_than_a_busy_one(tmp_path: Path) -> None:
    models = ["llama3", "mistral", "gemma2"]
    with running_server(tmp_path, models, time_scale=0.01, OLLAMA_MAX_LOADED_MODELS="2") as server:
        server.chat("mistral", keep_alive="1h")
        held = Held(server, "llama3", keep_alive="1m")
        server.chat("gemma2")
        assert set(loaded_names(server)) == {"llama3:latest", "gemma2:latest"}
        held.leave()


def test_memory_evicts_before_the_number_does(tmp_path: Path) -> None:
    models = ["llama3", "deepseek-r1:14b"]
    hardware = {"memory_gib": 16}
    with running_server(
        tmp_path, models, hardware=hardware, OLLAMA_CONTEXT_LENGTH="4096"
    ) as server:
        server.chat("llama3")
        server.chat("deepseek-r1:14b")
        assert loaded_names(server) == ["deepseek-r1:14b"]


def test_model_larger_than_the_gpu_is_offloaded_in_part(tmp_path: Path) -> None:
    with running_server(
        tmp_path, ["llama3:70b"], hardware={"memory_gib": 24}, OLLAMA_CONTEXT_LENGTH="4096"
    ) as server:
        server.chat("llama3:70b")
        model = server.running()["llama3:70b"]
        assert 0 < model["size_vram"] == 24 << 30 < model["size"]


def test_cpu_holds_nothing_in_vram_and_does_not_ask_whether_it_fits(tmp_path: Path) -> None:
    models = ["llama3", "deepseek-r1:14b"]
    with running_server(tmp_path, models, profile="cpu", hardware={"memory_gib": 8}) as server:
        for model in models:
            server.chat(model)
        assert set(loaded_names(server)) == {"llama3:latest", "deepseek-r1:14b"}
        assert {item["size_vram"] for item in server.running().values()} == {0}


def test_loads_go_one_at_a_time_and_a_loading_model_is_not_listed(tmp_path: Path) -> None:
    with running_server(tmp_path, ["llama3", "mistral"], time_scale=1000) as server:
        first = Request(server, "/api/chat", model="llama3", messages=HELLO)
        server.eventually(lambda state: state["loading"] == "llama3:latest")
        second = Request(server, "/api/chat", model="mistral", messages=HELLO)
        waiting = server.eventually(lambda state: state["queued"] == 1)
        assert waiting["loading"] == "llama3:latest"
        assert server.running() == {}
        first.leave()
        server.eventually(lambda state: state["loading"] == "mistral:latest")
        second.leave()


def test_requests_for_a_loading_model_share_the_load(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    with running_server(tmp_path, time_scale=0.1) as server:
        asked = [pool.submit(server.chat, "llama3") for _ in range(3)]
        assert [item.result().status_code for item in asked] == [200] * 3
        assert server.state()["loads"] == 1


def test_full_queue_is_busy_but_a_loaded_model_never_is(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    with running_server(
        tmp_path,
        ["llama3", "mistral"],
        time_scale=0.01,
        OLLAMA_MAX_QUEUE="1",
        OLLAMA_MAX_LOADED_MODELS="1",
    ) as server:
        held = Held(server, "llama3")
        waiting = [pool.submit(server.chat, "mistral")]
        server.eventually(lambda state: state["in_flight"] == 2 and state["queued"] == 0)
        waiting.append(pool.submit(server.chat, "mistral"))
        server.eventually(lambda state: state["queued"] == 1)
        text = "server busy, please try again.  maximum pending requests exceeded"
        busy = server.chat("mistral")
        assert (busy.status_code, busy.json()) == (503, {"error": text})
        assert "retry-after" not in busy.headers
        framed = server.post("/v1/chat/completions", model="mistral", messages=HELLO)
        assert framed.status_code == 503
        assert framed.json()["error"] == {
            "message": text,
            "type": "api_error",
            "param": None,
            "code": None,
        }
        warm = [pool.submit(server.chat, "llama3") for _ in range(4)]
        server.eventually(lambda state: state["loaded"][0]["waiting"] == 4)
        held.leave()
        assert [item.result().status_code for item in (*warm, *waiting)] == [200] * 6


def test_client_that_leaves_during_a_load_ends_the_load(tmp_path: Path) -> None:
    with running_server(tmp_path, time_scale=1000) as server:
        asked = Request(server, "/api/chat", model="llama3", messages=HELLO)
        server.eventually(lambda state: state["loading"] == "llama3:latest")
        asked.leave()
        state = server.eventually(lambda state: state["in_flight"] == 0)
        assert (state["loading"], state["loaded"], state["loads"]) == (None, [], 0)
        server.has_logged("aborting load")


def test_client_that_leaves_while_queued_is_forgotten(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    with running_server(
        tmp_path, ["llama3", "mistral"], time_scale=0.01, OLLAMA_MAX_LOADED_MODELS="1"
    ) as server:
        held = Held(server, "llama3")
        asked = Request(server, "/api/chat", model="mistral", messages=HELLO)
        server.eventually(lambda state: state["in_flight"] == 2)
        asked.leave()
        server.eventually(lambda state: state["in_flight"] == 1)
        held.leave()
        server.eventually(lambda state: state["in_flight"] == 0)
        assert pool.submit(server.chat, "llama3").result().status_code == 200
        assert server.state()["loads"] == 2
