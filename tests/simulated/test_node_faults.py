"""Faults that can be switched on, as a client meets them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from simulated_server import Held, Request, Server, running_server, until

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO = [{"role": "user", "content": "Hello"}]
CHAT = "/v1/chat/completions"
INTERFACES = [(CHAT, b"data: {"), ("/api/chat", b'{"model"')]


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("node"), ["llama3"]) as server:
        yield server


@pytest.fixture
def server(module_server: Server) -> Iterator[Server]:
    yield module_server
    module_server.fault("none")


def asked(server: Server, path: str = CHAT, *, stream: bool = True) -> Request:
    return Request(server, path, model="llama3", messages=HELLO, stream=stream)


@pytest.mark.parametrize("stream", [True, False])
def test_reset_before_headers(server: Server, *, stream: bool) -> None:
    server.fault("reset_before_headers")
    request = asked(server, stream=stream)
    with pytest.raises(ConnectionResetError):
        request.read_to_the_end()
    assert request.received == b""


def test_reset_after_headers(server: Server) -> None:
    server.fault("reset_after_headers")
    request = asked(server)
    with pytest.raises(ConnectionResetError):
        request.read_to_the_end()
    head, _, body = request.received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body == b""


@pytest.mark.parametrize(("path", "mark"), INTERFACES)
def test_reset_after_tokens(server: Server, path: str, mark: bytes) -> None:
    server.fault("reset_after_tokens", tokens=5)
    request = asked(server, path)
    with pytest.raises(ConnectionResetError):
        request.read_to_the_end()
    assert request.received.count(mark) == 5


def test_reset_after_tokens_without_a_stream_shows_nothing(server: Server) -> None:
    server.fault("reset_after_tokens", tokens=5)
    request = asked(server, stream=False)
    with pytest.raises(ConnectionResetError):
        request.read_to_the_end()
    assert request.received == b""
    server.eventually(lambda state: state["loaded"][0]["busy"] == 0)


def test_runner_crash_in_a_native_stream_is_its_last_line(server: Server) -> None:
    server.fault("runner_crash", tokens=2)
    *pieces, last = server.lines("/api/chat", model="llama3", messages=HELLO)
    assert [line["done"] for line in pieces] == [False, False]
    text = "an error was encountered while running the model: unexpected EOF"
    assert last == {"error": text}
    whole = server.chat("llama3")
    assert (whole.status_code, whole.json()) == (500, {"error": text})


def test_runner_crash_in_an_openai_stream_is_an_empty_chunk_and_no_end(server: Server) -> None:
    server.fault("runner_crash", tokens=2)
    *pieces, last = server.chunks(CHAT, model="llama3", messages=HELLO)
    assert len(pieces) == 2
    assert last["model"] == ""
    assert last["choices"] == [{"index": 0, "delta": {"content": ""}, "finish_reason": None}]


@pytest.mark.parametrize(
    ("mode", "status", "text"),
    [
        ("http_500", 500, "llama-server process has terminated: exit status 2 (simulated)"),
        ("busy", 503, "server busy, please try again.  maximum pending requests exceeded"),
        ("not_found", 404, "model 'llama3' not found"),
    ],
)
def test_errors_in_the_form_of_the_interface(
    server: Server, mode: str, status: int, text: str
) -> None:
    server.fault(mode)
    native = server.chat("llama3")
    assert (native.status_code, native.json()) == (status, {"error": text})
    framed = server.post(CHAT, model="llama3", messages=HELLO, stream=True)
    assert (framed.status_code, framed.json()["error"]["message"]) == (status, text)


def test_hang_answers_nothing_and_ends_with_its_client(server: Server) -> None:
    server.fault("hang")
    before = server.state()["in_flight"]
    request = asked(server)
    server.eventually(lambda state: state["in_flight"] == before + 1)
    assert request.received == b""
    request.leave()
    server.eventually(lambda state: state["in_flight"] == before)


def test_fault_of_inference_leaves_the_rest_alone_and_one_of_all_does_not(server: Server) -> None:
    server.fault("busy")
    assert server.http.get("/api/tags").status_code == 200
    server.fault("busy", scope="all")
    assert server.http.get("/api/tags").status_code == 503
    assert server.http.get("/simulated/state").status_code == 200


def test_fault_of_so_many_requests(server: Server) -> None:
    server.fault("busy", count=2)
    statuses = [server.chat("llama3").status_code for _ in range(4)]
    assert statuses == [503, 503, 200, 200]
    assert server.state()["fault"]["left"] == 0


def test_slow_takes_longer(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("slow")
    with running_server(directory, ["llama3"], time_scale=0.5) as server:
        server.chat("llama3")
        usual = server.chat("llama3", "[[tokens=20]]").json()["eval_duration"]
        server.fault("slow", factor=20)
        slow = server.chat("llama3", "[[tokens=20]]").json()["eval_duration"]
    assert slow > usual


def test_refuse_closes_the_port_and_idle_connections_for_a_while(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("refuse")
    with running_server(directory, ["llama3"], time_scale=0.05) as server:
        busy = Held(server, "llama3")
        idle = httpx.Client(base_url=server.http.base_url)
        idle.get("/api/version")
        server.fault("refuse", seconds=1.5)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.http.base_url}/api/version")
        with pytest.raises(httpx.TransportError):
            idle.get("/api/version")
        assert len(busy.read_more()) > 0
        until(lambda: _answers(server), lambda answered: answered)
        busy.leave()


def _answers(server: Server) -> bool:
    try:
        return httpx.get(f"{server.http.base_url}/api/version").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ({"mode": "explode"}, "unknown mode 'explode'"),
        ({"mod": "busy"}, "unknown field 'mod'"),
        ({"mode": "busy", "scope": "some"}, "scope is"),
        ({"mode": "busy", "count": "many"}, "many"),
    ],
)
def test_wrong_faults_are_refused(server: Server, fault: dict[str, Any], complaint: str) -> None:
    refused = server.http.post("/simulated/faults", content=json.dumps(fault))
    assert refused.status_code == 400
    assert complaint in refused.json()["error"]
    assert server.chat("llama3").status_code == 200
