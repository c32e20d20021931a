"""Questions to the endpoint, answered by the node that the policy says."""

from __future__ import annotations

import json

import openai
import pytest
from gateway_process import ONE_SLOT_GPU, Gateway, eventually

GPU_NODE = {"hardware": ONE_SLOT_GPU}


@pytest.fixture
def fleet(gateway: Gateway, make_nodes) -> Gateway:
    """A GPU node and a CPU node with the same model; the CPU node alone has one for embeddings."""
    big, cpu = make_nodes(["llama3"], ["llama3", "nomic-embed-text"])
    gateway.use({"big": {"address": big.address, **GPU_NODE}, "cpu": {"address": cpu.address}})
    return gateway


@pytest.fixture
def sdk(fleet: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{fleet.url}/v1", api_key=fleet.key, max_retries=0)


MESSAGES = [{"role": "user", "content": "Say hello."}]


def test_a_chat(fleet: Gateway) -> None:
    answer = fleet.ask("llama3", max_tokens=16)
    assert answer.status_code == 200
    assert answer.json()["model"] == "llama3"
    assert "simulated" in answer.json()["choices"][0]["message"]["content"]
    assert answer.headers["x-jarvis-node"] == "big"
    assert answer.headers["x-jarvis-attempts"] == "1"
    assert answer.headers["x-jarvis-reason"].startswith("primary GPU node")


def test_a_stream(fleet: Gateway) -> None:
    with fleet.stream("llama3") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-jarvis-node"] == "big"
        assert answer.headers["x-jarvis-attempts"] == "1"
        assert answer.headers["x-jarvis-reason"]
        events = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert events[-1] == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events[:-1]]
    assert "".join(delta.get("content") or "" for delta in deltas).startswith("This is")


def test_the_openai_sdk(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(model="llama3", messages=MESSAGES, max_tokens=4)
    assert whole.choices[0].finish_reason == "length"
    chunks = list(
        sdk.chat.completions.create(
            model="llama3",
            messages=MESSAGES,
            max_tokens=4,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4
    vectors = sdk.embeddings.create(model="nomic-embed-text", input=["one", "two"])
    assert [len(item.embedding) for item in vectors.data] == [768, 768]
    assert sdk.completions.create(model="llama3", prompt="Once", max_tokens=4).choices[0].text
    pieces = sdk.completions.create(model="llama3", prompt="Once", max_tokens=4, stream=True)
    assert "".join(piece.choices[0].text or "" for piece in pieces)
    assert {model.id for model in sdk.models.list()} == {"llama3", "nomic-embed-text"}
    assert sdk.models.retrieve("llama3:latest").id == "llama3"


def test_the_openai_sdk_sees_our_errors(sdk: openai.OpenAI, fleet: Gateway) -> None:
    with pytest.raises(openai.NotFoundError, match="did you mean 'llama3'"):
        sdk.chat.completions.create(model="lama3", messages=MESSAGES)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="jrv_x", max_retries=0).models.list()


def test_openais_newer_name_of_the_limit_is_heeded(fleet: Gateway) -> None:
    answer = fleet.ask("llama3", max_tokens=None, max_completion_tokens=3)
    assert answer.json()["usage"]["completion_tokens"] == 3


def test_settings_that_a_node_does_not_know_do_no_harm(fleet: Gateway) -> None:
    answer = fleet.ask(
        "llama3",
        logit_bias={"5": 1},
        parallel_tool_calls=True,
        presence_penalty=0.1,
        user="someone",
        metadata={"a": "b"},
        keep_alive="5m",
    )
    assert answer.status_code == 200


def test_a_tool_call_comes_through(fleet: Gateway, make_nodes) -> None:
    (node,) = make_nodes(["llama3.1"])
    fleet.use({"tools": {"address": node.address, **GPU_NODE}})
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    messages = [{"role": "user", "content": '[[call weather {"city": "Bern"}]]'}]
    answer = fleet.ask("llama3.1", messages=messages, tools=[tool], max_tokens=64)
    (call,) = answer.json()["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Bern"}


@pytest.mark.parametrize(
    "name",
    [
        "llama3",
        "llama3:latest",
        "ollama/llama3",
        "LLAMA3",
        "library/llama3",
        "ollama_chat/Llama3:Latest",
    ],
)
def test_all_names_of_a_model(fleet: Gateway, name: str) -> None:
    answer = fleet.ask(name)
    assert (answer.status_code, answer.json()["model"]) == (200, name)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("llama3@cpu", {}),
        ("ollama/LLAMA3@CPU", {}),
        ("llama3", {"node": "cpu"}),
        ("llama3", {"headers": {"x-jarvis-node": "cpu"}}),
        ("llama3@cpu", {"node": "cpu", "headers": {"x-jarvis-node": "cpu"}}),
    ],
)
def test_a_node_can_be_asked_for(fleet: Gateway, model: str, options: dict) -> None:
    answer = fleet.ask(model, **options)
    assert answer.status_code == 200
    assert answer.headers["x-jarvis-node"] == "cpu"
    assert answer.headers["x-jarvis-reason"] == "asked for"


@pytest.mark.parametrize(
    ("model", "options", "status", "message"),
    [
        ("lama3", {}, 404, "no model 'lama3' here; did you mean 'llama3'?"),
        ("auto", {}, 404, "no model 'auto' here"),
        ("llama3@bigg", {}, 404, "no node 'bigg' here; did you mean 'big'?"),
        ("llama3@brain", {}, 404, "no node 'brain' here"),
        (
            "nomic-embed-text@big",
            {},
            400,
            "node 'big' does not have 'nomic-embed-text'; 'cpu' does",
        ),
        ("llama3@big", {"node": "cpu"}, 400, "the request names several nodes: big, cpu"),
        ("llama3,mistral", {}, 400, "model must be one name, not a list: 'llama3,mistral'"),
        ("llama3", {"api_base": "http://127.0.0.1:1"}, 400, "api_base cannot be set by a client"),
        ("llama3", {"api_key": "x"}, 400, "api_key cannot be set by a client"),
        ("llama3", {"messages": None}, 400, "messages"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(
    fleet: Gateway, model: str, options: dict, status: int, message: str
) -> None:
    answer = fleet.ask(model, **options)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert message in error["message"]
    assert error["code"] == str(status)
    assert "x-jarvis-node" not in answer.headers


def test_the_clients_own_mistake_is_not_tried_on_another_node(gateway: Gateway, make_nodes) -> None:
    nodes = make_nodes(["gemma2"], ["gemma2"])
    gateway.use({f"n{i}": {"address": node.address, **GPU_NODE} for i, node in enumerate(nodes)})
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    answer = gateway.ask("gemma2", tools=[tool])
    assert answer.status_code == 400
    assert "does not support tools" in answer.json()["error"]["message"]
    assert answer.headers["x-jarvis-attempts"] == "1"


def test_a_model_pulled_by_hand_is_there_at_once(gateway: Gateway, make_nodes) -> None:
    """The nodes are looked at only every ten seconds here: it is the request that looks."""
    (node,) = make_nodes(["llama3"])
    gateway.use({"big": {"address": node.address, **GPU_NODE}}, routing={"refresh_seconds": 10})
    eventually(lambda: gateway.ask("llama3").status_code == 200, "the fleet is in use")
    node.pull("phi3")
    assert gateway.ask("phi3").status_code == 200
    node.pull("mistral")
    assert gateway.ask("mistral@big").status_code == 200


def test_a_node_that_hangs_does_not_delay_the_answer_about_an_unknown_model_for_ever(
    gateway: Gateway, make_nodes
) -> None:
    frozen, well = make_nodes(["llama3"], ["mistral"])
    gateway.use({"frozen": {"address": frozen.address}, "well": {"address": well.address}})
    frozen.freeze()
    assert gateway.ask("unheard-of").status_code == 404
    assert gateway.ask("mistral").status_code == 200
    frozen.thaw()
