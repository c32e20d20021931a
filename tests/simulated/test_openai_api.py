"""The OpenAI-compatible interface. The expectations were recorded from a real Ollama 0.32.15."""

from __future__ import annotations

import base64
import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from openai import NotFoundError, OpenAI

if TYPE_CHECKING:
    from simulated_server import Server

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = "/v1/chat/completions"


def test_chat(node: Server) -> None:
    response = node.post(CHAT, model="llama3", messages=HELLO)
    assert response.headers["content-type"] == "application/json"
    assert response.text.endswith("}\n")
    said = response.json()
    assert said["object"] == "chat.completion"
    assert said["model"] == "llama3"
    assert said["system_fingerprint"] == "fp_ollama"
    (choice,) = said["choices"]
    assert choice["finish_reason"] == "stop"
    assert "simulated" in choice["message"]["content"]
    usage = said["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]


def test_chat_streams(node: Server) -> None:
    *chunks, done = node.chunks(CHAT, model="llama3", messages=HELLO, max_tokens=4)
    assert done == "[DONE]"
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert [choice["delta"] for chunk in chunks for choice in chunk["choices"]] == [
        {"role": "assistant", "content": "This"},
        {"content": " is"},
        {"content": " a"},
        {"content": " simula"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4 + ["length"]


def test_usage_comes_last_when_asked_for(node: Server) -> None:
    chunks = node.chunks(
        CHAT, model="llama3", messages=HELLO, max_tokens=2, stream_options={"include_usage": True}
    )
    *_, finish, usage, done = chunks
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 2
    assert "usage" not in finish


def test_thinking_is_called_reasoning(node: Server) -> None:
    body = {"model": "deepseek-r1:7b", "messages": [{"role": "user", "content": "[[thinking=5]]"}]}
    said = node.post(CHAT, **body).json()["choices"][0]["message"]
    assert said["reasoning"].startswith("Simulated thinking")
    *chunks, _ = node.chunks(CHAT, **body)
    assert "reasoning" in chunks[0]["choices"][0]["delta"]
    silent = node.post(CHAT, **body, reasoning_effort="none").json()["choices"][0]["message"]
    assert "reasoning" not in silent


def test_tool_call(node: Server) -> None:
    body = {
        "model": "mistral",
        "messages": [{"role": "user", "content": '[[call weather {"city": "Bonn"}]]'}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}],
    }
    (choice,) = node.post(CHAT, **body).json()["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "Bonn"}
    *chunks, _ = node.chunks(CHAT, **body)
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[0]["choices"][0]["delta"]["tool_calls"][0]["index"] == 0


def test_content_in_parts_and_json_form(node: Server) -> None:
    parts = [{"type": "text", "text": "Hello"}, {"type": "text", "text": " there"}]
    said = node.post(
        CHAT,
        model="llama3",
        messages=[{"role": "user", "content": parts}],
        response_format={"type": "json_object"},
    )
    content = json.loads(said.json()["choices"][0]["message"]["content"])
    assert content == {"simulated": True, "model": "llama3", "node": "testnode"}


def test_completions(node: Server) -> None:
    body = {"model": "llama3", "prompt": "Hello", "max_tokens": 3}
    said = node.post("/v1/completions", **body).json()
    assert said["object"] == "text_completion"
    assert said["choices"] == [{"text": "This is a", "index": 0, "finish_reason": "length"}]
    *chunks, done = node.chunks("/v1/completions", **body)
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "This is a"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-2:] == [None, "length"]


def test_embeddings_as_numbers_and_as_base64(node: Server) -> None:
    body = {"model": "nomic-embed-text", "input": ["river", "stone"]}
    said = node.post("/v1/embeddings", **body).json()
    assert [item["index"] for item in said["data"]] == [0, 1]
    assert said["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    encoded = node.post("/v1/embeddings", **body, encoding_format="base64").json()
    numbers = struct.unpack("<768f", base64.b64decode(encoded["data"][0]["embedding"]))
    assert numbers == pytest.approx(said["data"][0]["embedding"], abs=1e-6)


def test_models_are_listed_and_described(node: Server) -> None:
    listed = node.http.get("/v1/models").json()
    assert listed["object"] == "list"
    names = [model["name"] for model in node.http.get("/api/tags").json()["models"]]
    assert [model["id"] for model in listed["data"]] == names
    one = node.http.get("/v1/models/llama3").json()
    assert (one["id"], one["object"], one["owned_by"]) == ("llama3", "model", "library")


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "message"),
    [
        (CHAT, {"model": "nosuch"}, 404, "not_found_error", "model 'nosuch' not found"),
        (CHAT, {}, 400, "invalid_request_error", "model is required"),
        (
            "/v1/completions",
            {"model": "nosuch", "prompt": "x"},
            404,
            "not_found_error",
            "model 'nosuch' not found",
        ),
        (
            "/v1/embeddings",
            {"model": "nosuch", "input": "x"},
            404,
            "not_found_error",
            'model "nosuch" not found, try pulling it first',
        ),
        (
            CHAT,
            {"model": "nomic-embed-text"},
            400,
            "invalid_request_error",
            '"nomic-embed-text" does not support chat',
        ),
    ],
)
def test_errors(
    node: Server, path: str, body: dict[str, Any], status: int, kind: str, message: str
) -> None:
    response = node.http.post(path, json={"messages": HELLO, "stream": True, **body})
    expected = {"message": message, "type": kind, "param": None, "code": None}
    assert (response.status_code, response.json()) == (status, {"error": expected})
    assert response.headers["content-type"] == "application/json"
    assert response.text.endswith("}\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "EOF"),
        ('{"model":', "unexpected EOF"),
        (
            "[]",
            "json: cannot unmarshal array into Go value of type openai.ChatCompletionRequest",
        ),
        ('{"model": "llama3", "messages": []}', "[] is too short - 'messages'"),
        (
            '{"model": "llama3", "messages": "hi"}',
            (
                "json: cannot unmarshal string into Go struct field "
                "ChatCompletionRequest.messages of type []openai.Message"
            ),
        ),
        (
            '{"model": "llama3", "messages": [{"role": "user", "content": 5}]}',
            "invalid message content type: float64",
        ),
        (
            (
                '{"model": "llama3", "messages": [{"role": "user", "content": [{"type":'
                ' "image_url", "image_url": {"url": "http://example.com/a.png"}}]}]}'
            ),
            "image URLs are not currently supported, please use base64 encoded data instead",
        ),
    ],
)
def test_unreadable_requests_are_framed_in_their_own_way(
    node: Server, content: str, message: str
) -> None:
    response = node.http.post(CHAT, content=content)
    assert response.status_code == 400
    assert response.json()["error"]["message"] == message
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.text.endswith("}")


def test_unknown_model_is_named_with_its_tag(node: Server) -> None:
    response = node.http.get("/v1/models/nosuch")
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "model 'nosuch:latest' not found"


def test_openai_library_is_content(node: Server) -> None:
    client = OpenAI(base_url=f"http://127.0.0.1:{node.port}/v1", api_key="unused")
    said = client.chat.completions.create(model="llama3", messages=HELLO)  # type: ignore[arg-type]
    assert "simulated" in (said.choices[0].message.content or "")
    with client.chat.completions.create(
        model="llama3",
        messages=HELLO,  # type: ignore[arg-type]
        stream=True,
    ) as stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == said.choices[0].message.content
    with pytest.raises(NotFoundError):
        client.chat.completions.create(model="nosuch", messages=HELLO)  # type: ignore[arg-type]
