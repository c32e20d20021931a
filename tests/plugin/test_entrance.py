"""Who gets in, to what."""

from __future__ import annotations

import httpx
import pytest
from gateway_process import Gateway, eventually
from simulated_node import new_address

CHAT = {"model": "llama3", "messages": [{"role": "user", "content": "hi"}]}
CLOSED = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/llama3"),
    ("GET", "/api/nodes"),
]


@pytest.mark.parametrize(("method", "path"), CLOSED)
@pytest.mark.parametrize(
    "authorization", [None, "Bearer jrv_wrong", "Bearer", "Basic x", "Bearer sk-1234"]
)
def test_without_a_key_there_is_nothing(
    gateway: Gateway, method: str, path: str, authorization: str | None
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    answer = httpx.request(method, gateway.url + path, headers=headers, json=CHAT, trust_env=False)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"


def test_the_key_is_checked_before_the_body(gateway: Gateway) -> None:
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", content=b"{", trust_env=False)
    assert answer.status_code == 401


def test_a_key_in_the_header_of_anthropics_sdk(gateway: Gateway) -> None:
    answer = httpx.get(
        f"{gateway.url}/v1/models", headers={"x-api-key": gateway.key}, trust_env=False
    )
    assert answer.status_code == 200


def test_the_key_does_not_come_out_again(gateway: Gateway) -> None:
    answer = gateway.ask("no-such-model")
    assert gateway.key not in answer.text + str(answer.headers) + gateway.log


LITELLMS_OWN = [
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/ui"),
    ("GET", "/health"),
    ("GET", "/health/readiness"),
    ("GET", "/model/info"),
    ("GET", "/v1/model/info"),
    ("POST", "/model/new"),
    ("GET", "/router/settings"),
    ("POST", "/key/generate"),
    ("GET", "/public/litellm_blog_posts"),
    ("GET", "/metrics"),
    ("POST", "/chat/completions"),
    ("POST", "/openai/deployments/llama3/chat/completions"),
    ("POST", "/engines/llama3/completions"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/images/generations"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/files"),
    ("POST", "/vllm/v1/chat/completions"),
    ("POST", "/api/chat"),
    ("POST", "/api/pull"),
    ("POST", "/v1/chat/completions/"),
    ("POST", "//v1/chat/completions"),
    ("POST", "/v1/../model/new"),
    ("POST", "/v1/chat%2Fcompletions/x"),
]


@pytest.mark.parametrize(("method", "path"), LITELLMS_OWN)
def test_what_is_not_listed_is_not_there(gateway: Gateway, method: str, path: str) -> None:
    with gateway.client() as client:
        request = client.build_request(method, "/", json=CHAT)
        request.url = request.url.copy_with(raw_path=path.encode())
        answer = client.send(request)
    assert answer.status_code == 404
    assert "error" in answer.json()
    assert answer.headers["content-type"] == "application/json"


def test_another_method_is_not_there_either(gateway: Gateway) -> None:
    with gateway.client() as client:
        for method, path in (("GET", "/v1/chat/completions"), ("DELETE", "/v1/models/llama3")):
            answer = client.request(method, path)
            assert answer.status_code in {404, 405}
            assert "error" in answer.json()


def test_orders_to_litellm_in_headers_and_query_go_unheard(gateway: Gateway, make_nodes) -> None:
    (node,) = make_nodes(["llama3"])
    gateway.use({"big": {"address": node.address}})
    with gateway.client() as client:
        answer = client.post(
            "/v1/chat/completions?api_base=http://127.0.0.1:1&model=other",
            json={**CHAT, "max_tokens": 2},
            headers={"x-litellm-timeout": "0.0001", "x-litellm-api-key": "sk-other"},
        )
    assert answer.status_code == 200, answer.text
    assert not [name for name in answer.headers if "litellm" in name or "provider" in name]
    assert node.address not in str(answer.headers)


def test_a_body_without_end_is_cut_off(gateway: Gateway) -> None:
    with gateway.client() as client:
        answer = client.post("/v1/chat/completions", content=b" " * (32 * 1024 * 1024 + 1))
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_health_needs_no_key(gateway: Gateway) -> None:
    for path in ("/health/live", "/health/ready"):
        assert httpx.get(gateway.url + path, trust_env=False).status_code == 200


def test_models_are_public_as_names_and_categories(gateway: Gateway, make_nodes) -> None:
    big, cpu = make_nodes(["llama3", "qwen2.5-coder:7b"], ["nomic-embed-text"])
    nodes = {
        "big": {"address": big.address, "models": ["llama3"]},
        "cpu": {"address": cpu.address},
    }
    gateway.use(nodes, models={"llama3": {"category": "fast", "best_for": "tests"}})
    big.load("llama3")
    public = httpx.get(f"{gateway.url}/api/models", trust_env=False).json()["models"]
    assert public == [
        {"name": "llama3", "category": "fast"},
        {"name": "nomic-embed-text", "category": "embedding"},
        {"name": "qwen2.5-coder:7b", "category": "code"},
    ]
    with gateway.client() as client:
        full = client.get("/api/models").json()["models"]
    assert [item["name"] for item in full] == [item["name"] for item in public]
    assert full[0]["best_for"] == "tests"
    assert full[0]["nodes"][0]["name"] == "big"
    assert len(full[0]["nodes"][0]["digest"]) == 64
    wrong = httpx.get(
        f"{gateway.url}/api/models", headers={"Authorization": "Bearer x"}, trust_env=False
    )
    assert wrong.status_code == 401


def test_models_can_be_closed(gateway: Gateway, make_nodes) -> None:
    (node,) = make_nodes(["llama3"])
    gateway.use({"big": {"address": node.address}}, gateway={"public_models": False})
    assert httpx.get(f"{gateway.url}/api/models", trust_env=False).status_code == 401
    with gateway.client() as client:
        assert client.get("/api/models").status_code == 200


def test_nodes_tell_their_state(gateway: Gateway, make_nodes) -> None:
    (node,) = make_nodes(["llama3", "phi3"])
    nodes = {"big": {"address": node.address}, "gone": {"address": new_address()}}
    gateway.write(gateway.fleet(nodes))
    node.load("phi3")
    eventually(
        lambda: gateway.nodes().get("big", {}).get("loaded") == ["phi3"], "the loaded model is seen"
    )
    seen = gateway.nodes()
    assert seen["big"]["well"]
    assert seen["big"]["models"] == ["llama3", "phi3"]
    assert seen["big"]["ollama"].endswith("-simulated")
    assert (seen["big"]["slots"], seen["big"]["busy"]) == (1, 0)
    eventually(lambda: gateway.nodes()["gone"]["error"] == "no connection", "why a node is down")
    assert not gateway.nodes()["gone"]["well"]
