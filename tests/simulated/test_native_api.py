"""Ollama's own interface to models. The expectations were recorded from a real Ollama 0.32.15."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from simulated_server import Server

HELLO = [{"role": "user", "content": "Hello"}]
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


def test_chat_streams_objects_and_ends_with_metrics(node: Server) -> None:
    lines = node.lines("/api/chat", model="llama3", messages=HELLO)
    *pieces, last = lines
    assert all(line["done"] is False and line["message"]["content"] for line in pieces)
    assert all(RFC3339.fullmatch(line["created_at"]) for line in lines)
    assert last["done"] is True
    assert last["done_reason"] == "stop"
    assert last["message"] == {"role": "assistant", "content": ""}
    assert last["eval_count"] == len(pieces)
    assert last["total_duration"] >= last["load_duration"] > 0


def test_chat_says_what_it_is_and_where(node: Server) -> None:
    said = node.chat("LLAMA3:latest").json()
    assert said["model"] == "LLAMA3:latest"
    for word in ("simulated", "LLAMA3:latest", "testnode"):
        assert word in said["message"]["content"]


def test_stream_and_whole_answer_are_the_same_text(node: Server) -> None:
    streamed = node.lines("/api/chat", model="llama3", messages=HELLO)
    whole = node.post("/api/chat", model="llama3", messages=HELLO, stream=False)
    assert whole.headers["content-type"] == "application/json; charset=utf-8"
    text = "".join(line["message"]["content"] for line in streamed)
    assert whole.json()["message"]["content"] == text


def test_stream_is_ndjson_in_chunks(node: Server) -> None:
    response = node.post("/api/chat", model="llama3", messages=HELLO)
    assert response.headers["content-type"] == "application/x-ndjson"
    assert "content-length" not in response.headers


@pytest.mark.parametrize(("limit", "reason", "count"), [(3, "length", 3), (500, "stop", 50)])
def test_answer_ends_at_its_limit_or_by_itself(
    node: Server, limit: int, reason: str, count: int
) -> None:
    said = node.chat("llama3", "Go on [[tokens=50]]", options={"num_predict": limit}).json()
    assert (said["done_reason"], said["eval_count"]) == (reason, count)


def test_answer_without_a_limit_is_bounded_by_ten_contexts(node: Server) -> None:
    said = node.chat("llama3", "[[tokens=1000]]", options={"num_ctx": 32}).json()
    assert (said["done_reason"], said["eval_count"]) == ("length", 320)


def test_figures_that_are_zero_are_left_out(node: Server) -> None:
    said = node.chat("llama3", options={"num_predict": 0}).json()
    assert said["prompt_eval_count"] > 0
    assert "eval_count" not in said
    assert "eval_duration" not in said


def test_stop_text_ends_the_answer(node: Server) -> None:
    said = node.chat("llama3", options={"stop": [" answer"]}).json()
    assert said["message"]["content"] == "This is a simulated"
    assert said["done_reason"] == "stop"


def test_unknown_fields_and_options_are_ignored(node: Server) -> None:
    said = node.chat("llama3", nonsense=1, options={"nonsense": 1, "num_predict": 1})
    assert said.status_code == 200


def test_empty_conversation_loads_and_keep_alive_zero_unloads(node: Server) -> None:
    loaded = node.post("/api/chat", model="mistral", messages=[])
    assert loaded.json()["done_reason"] == "load"
    assert "total_duration" not in loaded.json()
    assert "mistral:latest" in node.running()
    unloaded = node.post("/api/chat", model="mistral", messages=[], keep_alive=0)
    assert unloaded.json()["done_reason"] == "unload"
    assert "mistral:latest" not in node.running()


def test_generate_streams_and_hands_out_a_context(node: Server) -> None:
    lines = node.lines("/api/generate", model="llama3", prompt="Hello")
    *pieces, last = lines
    text = "".join(line["response"] for line in pieces)
    assert "simulated" in text
    assert list(last) == [
        *("model", "created_at", "response", "done", "done_reason", "context", "total_duration"),
        *("load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count"),
        "eval_duration",
    ]
    again = node.post(
        "/api/generate", model="llama3", prompt="And?", context=last["context"], stream=False
    )
    assert again.json()["prompt_eval_count"] > last["prompt_eval_count"] + last["eval_count"]


def test_raw_generate_has_no_context(node: Server) -> None:
    said = node.post("/api/generate", model="llama3", prompt="x", raw=True, stream=False).json()
    assert "context" not in said


def test_generate_without_a_prompt_loads_and_unloads(node: Server) -> None:
    assert node.post("/api/generate", model="gemma2").json()["done_reason"] == "load"
    assert "gemma2:latest" in node.running()
    gone = node.post("/api/generate", model="gemma2", keep_alive=0).json()
    assert (gone["done_reason"], gone["response"]) == ("unload", "")
    assert "gemma2:latest" not in node.running()


def test_thinking_is_on_by_default_where_the_model_can(node: Server) -> None:
    said = node.chat("deepseek-r1:7b", "[[thinking=12]]").json()["message"]
    assert said["thinking"].startswith("Simulated thinking")
    assert "thinking" not in said["content"]
    silent = node.chat("deepseek-r1:7b", "[[thinking=12]]", think=False).json()["message"]
    assert "thinking" not in silent


def test_tool_is_called_when_the_prompt_says_so(node: Server) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    lines = node.lines(
        "/api/chat",
        model="mistral",
        tools=tools,
        messages=[{"role": "user", "content": '[[call weather {"city": "Bonn"}]]'}],
    )
    called, last = lines
    (call,) = called["message"]["tool_calls"]
    assert call["function"] == {"index": 0, "name": "weather", "arguments": {"city": "Bonn"}}
    assert re.fullmatch(r"call_[a-z0-9]{8}", call["id"])
    assert last["done_reason"] == "stop"


def test_form_of_a_schema_is_kept(node: Server) -> None:
    form = {"type": "object", "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}}}
    said = node.chat("llama3", format=form).json()["message"]["content"]
    assert said == '{"n": 0, "ok": true}'


def test_trailing_answer_is_continued_only_by_templates_that_can(node: Server) -> None:
    def said(model: str, *more: dict[str, str]) -> str:
        question = {"role": "user", "content": "Tell me [[tokens=60]]"}
        body = {"model": model, "messages": [question, *more], "stream": False}
        return node.post("/api/chat", **body).json()["message"]["content"]

    whole = said("llama3")
    begun = whole[: whole.index(" Simulated sentence 2")]
    assert begun + said("llama3", {"role": "assistant", "content": begun}) == whole
    assert said("gemma2", {"role": "assistant", "content": begun}).startswith("This is a simulated")


def test_oldest_messages_are_dropped_to_fit_the_context(node: Server) -> None:
    long = "word " * 60
    messages = [{"role": role, "content": long} for role in ("user", "assistant", "user")]
    said = node.post(
        "/api/chat", model="llama3", messages=messages, stream=False, options={"num_ctx": 100}
    )
    assert 60 <= said.json()["prompt_eval_count"] <= 100


def test_prompt_too_long_is_cut_or_refused(node: Server) -> None:
    cut = node.chat("llama3", "word " * 300, options={"num_ctx": 100, "num_keep": 4})
    assert cut.json()["prompt_eval_count"] == 52
    refused = node.chat("llama3", "word " * 300, options={"num_ctx": 100}, shift=False)
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("the prompt is longer than the context length")


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/api/chat", {"model": "nosuch"}, 404, "model 'nosuch' not found"),
        ("/api/chat", {"model": "nosuch:7b"}, 404, "model 'nosuch:7b' not found"),
        ("/api/chat", {}, 400, "model is required"),
        ("/api/chat", {"model": "a b/c::d"}, 400, "invalid model name"),
        ("/api/generate", {"model": "nosuch"}, 404, "model 'nosuch' not found"),
        ("/api/generate", {}, 404, "model '' not found"),
        ("/api/embed", {"model": "nosuch"}, 404, 'model "nosuch" not found, try pulling it first'),
        (
            "/api/embeddings",
            {"model": "nosuch"},
            404,
            'model "nosuch" not found, try pulling it first',
        ),
        ("/api/show", {"model": "nosuch"}, 404, "model 'nosuch:latest' not found"),
        ("/api/show", {}, 400, "model is required"),
        (
            "/api/copy",
            {"source": "nosuch", "destination": "x"},
            404,
            'model "nosuch" not found',
        ),
        (
            "/api/chat",
            {"model": "llama3", "messages": HELLO, "think": True},
            400,
            '"llama3" does not support thinking',
        ),
        (
            "/api/chat",
            {"model": "nomic-embed-text", "messages": HELLO},
            400,
            '"nomic-embed-text" does not support chat',
        ),
        (
            "/api/generate",
            {"model": "nomic-embed-text", "prompt": "x"},
            400,
            '"nomic-embed-text" does not support generate',
        ),
        (
            "/api/chat",
            {"model": "llama3", "messages": HELLO, "tools": [{"type": "function"}]},
            400,
            "registry.ollama.ai/library/llama3:latest does not support tools",
        ),
        (
            "/api/chat",
            {"model": "llama3", "messages": HELLO, "options": {"num_ctx": "big"}},
            500,
            'option "num_ctx" must be of type integer',
        ),
        (
            "/api/chat",
            {"model": "llama3", "messages": HELLO, "keep_alive": "soon"},
            400,
            'time: invalid duration "soon"',
        ),
        (
            "/api/chat",
            {"model": 5},
            400,
            "json: cannot unmarshal number into Go struct field ChatRequest.model of type string",
        ),
    ],
)
def test_errors_have_the_text_of_their_endpoint(
    node: Server, path: str, body: dict[str, Any], status: int, error: str
) -> None:
    response = node.http.post(path, json=body)
    assert (response.status_code, response.json()) == (status, {"error": error})
    assert response.headers["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "missing request body"),
        (b'{"model":', "unexpected EOF"),
        (b"hello", "invalid character 'h' looking for beginning of value"),
        (b"[]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
    ],
)
def test_bodies_that_are_no_request(node: Server, content: bytes, error: str) -> None:
    response = node.http.post("/api/chat", content=content)
    assert (response.status_code, response.json()) == (400, {"error": error})


def test_unknown_paths_and_methods(node: Server) -> None:
    unknown = node.http.get("/api/nosuch")
    assert (unknown.status_code, unknown.text) == (404, "404 page not found")
    wrong = node.http.get("/api/chat")
    assert (wrong.status_code, wrong.text) == (405, "405 method not allowed")
    assert wrong.headers["allow"] == "POST"
    assert wrong.headers["content-type"] == "text/plain"


def test_embed_returns_vectors_of_length_one(node: Server) -> None:
    said = node.post("/api/embed", model="nomic-embed-text", input=["river", "stone"]).json()
    assert [len(vector) for vector in said["embeddings"]] == [768, 768]
    for vector in said["embeddings"]:
        assert sum(value * value for value in vector) == pytest.approx(1, abs=1e-4)
    assert said["embeddings"][0] != said["embeddings"][1]
    assert said["prompt_eval_count"] == 2


def test_embed_takes_one_text_or_none_and_shortens(node: Server) -> None:
    one = node.post("/api/embed", model="nomic-embed-text", input="river", dimensions=16).json()
    assert [len(vector) for vector in one["embeddings"]] == [16]
    assert sum(value * value for value in one["embeddings"][0]) == pytest.approx(1, abs=1e-4)
    none = node.post("/api/embed", model="nomic-embed-text", input=[]).json()
    assert none == {"model": "nomic-embed-text", "embeddings": []}


def test_texts_that_share_words_lie_nearer(node: Server) -> None:
    texts = ["a river runs past stones", "past stones a river runs slowly", "quarterly report"]
    vectors = node.post("/api/embed", model="nomic-embed-text", input=texts).json()["embeddings"]

    def likeness(one: int, other: int) -> float:
        return sum(a * b for a, b in zip(vectors[one], vectors[other], strict=True))

    assert likeness(0, 1) > likeness(0, 2)


def test_embed_cuts_or_refuses_what_is_too_long(node: Server) -> None:
    body = {"model": "nomic-embed-text", "input": "word " * 3000}
    assert node.post("/api/embed", **body).json()["prompt_eval_count"] == 2048
    refused = node.post("/api/embed", **body, truncate=False)
    assert refused.status_code == 400
    assert refused.json() == {"error": "the input length exceeds the context length"}


def test_older_embeddings_are_not_normalised(node: Server) -> None:
    said = node.post("/api/embeddings", model="nomic-embed-text", prompt="a river").json()
    assert sum(value * value for value in said["embedding"]) > 2


def test_chat_model_does_not_embed(node: Server) -> None:
    refused = node.post("/api/embed", model="llama3", input="river")
    assert refused.status_code == 501
    assert "does not support embeddings" in refused.json()["error"]


@pytest.mark.parametrize("wrong", [5, {"text": "x"}, ["x", 5]])
def test_embed_refuses_other_inputs(node: Server, wrong: object) -> None:
    refused = node.post("/api/embed", model="nomic-embed-text", input=wrong)
    assert (refused.status_code, refused.json()) == (400, {"error": "invalid input type"})
