"""Pulls: the registry's protocol, progress, interruption, and what goes wrong."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from model_registry import Registry, make_certificate, running_registry
from simulated_server import Request, Server, running_server, until

from lab.model_store import build_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LAYER = 200_000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "both.pem")


@pytest.fixture
def registry(tmp_path: Path, certificate: Path) -> Iterator[Registry]:
    store = tmp_path / "registry"
    build_store(store, ["llama3", "me/mine:1b"], layer_bytes=LAYER)
    with running_registry(store, certificate) as running:
        yield running


@pytest.fixture
def server(tmp_path: Path, certificate: Path) -> Iterator[Server]:
    trust = str(certificate.with_suffix(".crt"))
    with running_server(tmp_path / "node", [], SSL_CERT_FILE=trust) as running:
        yield running


def weights(registry: Registry) -> dict[str, Any]:
    return json.loads(registry.manifest("library", "llama3", "latest").read_text())["layers"][0]


def blob(server: Server, layer: dict[str, Any], suffix: str = "") -> Path:
    return server.models / "blobs" / (layer["digest"].replace(":", "-") + suffix)


def test_pull_brings_the_same_manifest_and_verified_blobs(
    server: Server, registry: Registry
) -> None:
    lines = server.lines("/api/pull", model=f"{registry.name}/library/llama3")
    statuses = [line["status"] for line in lines]
    assert statuses[0] == "pulling manifest"
    assert statuses[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    stored = server.models / "manifests" / registry.name / "library" / "llama3" / "latest"
    assert stored.read_bytes() == registry.manifest("library", "llama3", "latest").read_bytes()
    for path in (server.models / "blobs").iterdir():
        assert path.name == f"sha256-{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert server.chat(f"{registry.name}/library/llama3").status_code == 200


def test_pull_speaks_the_protocol(server: Server, registry: Registry) -> None:
    server.lines("/api/pull", model=f"{registry.name}/library/llama3")
    digest = weights(registry)["digest"]
    first, *rest = registry.requests
    assert first == ("GET", "/v2/library/llama3/manifests/latest", "")
    assert [item for item in rest if digest in item[1]] == [
        ("HEAD", f"/v2/library/llama3/blobs/{digest}", ""),
        ("GET", f"/v2/library/llama3/blobs/{digest}", ""),
        ("GET", f"/direct/{digest}", f"bytes=0-{LAYER - 1}"),
    ]
    assert any(agent.startswith("ollama/0.0.0-simulated (") for agent in registry.agents)


def test_progress_is_reported_while_it_lasts(server: Server, registry: Registry) -> None:
    registry.hold.clear()
    request = Request(server, "/api/pull", model=f"{registry.name}/library/llama3")
    layer = weights(registry)
    wanted = f'"digest":"{layer["digest"]}","total":{LAYER},"completed":{LAYER // 2}}}'.encode()
    seen = request.read_until(wanted)
    assert f'{{"status":"pulling {layer["digest"][7:19]}",'.encode() in seen
    registry.hold.set()
    request.read_until(b'{"status":"success"}')
    request.leave()


def test_what_is_there_is_not_fetched_again(server: Server, registry: Registry) -> None:
    name = f"{registry.name}/library/llama3"
    server.lines("/api/pull", model=name)
    registry.requests.clear()
    lines = server.lines("/api/pull", model=name)
    assert [method for method, _, _ in registry.requests] == ["GET"]
    layer = weights(registry)
    assert {
        "status": f"pulling {layer['digest'][7:19]}",
        "digest": layer["digest"],
        "total": LAYER,
        "completed": LAYER,
    } in lines


def test_client_that_leaves_stops_the_pull_and_the_next_one_resumes(
    server: Server, registry: Registry
) -> None:
    name = f"{registry.name}/library/llama3"
    layer = weights(registry)
    registry.hold.clear()
    request = Request(server, "/api/pull", model=name)
    request.read_until(f'"completed":{LAYER // 2}'.encode())
    request.leave()
    state = until(
        lambda: json.loads(blob(server, layer, "-partial-0").read_text()),
        lambda part: part["Completed"] > 0,
    )
    assert state == {"N": 0, "Offset": 0, "Size": LAYER, "Completed": LAYER // 2}
    assert blob(server, layer, "-partial").stat().st_size == LAYER
    assert not blob(server, layer).exists()
    assert server.http.get("/api/tags").json() == {"models": []}
    registry.hold.set()
    registry.requests.clear()
    assert server.lines("/api/pull", model=name)[-1] == {"status": "success"}
    assert f"bytes={LAYER // 2}-{LAYER - 1}" in registry.ranges()
    assert not registry.asked("HEAD", layer["digest"])
    assert list((server.models / "blobs").glob("*-partial*")) == []


def test_two_pulls_share_one_download(server: Server, registry: Registry) -> None:
    registry.hold.clear()
    half = f'"completed":{LAYER // 2}'.encode()
    requests = []
    for _ in range(2):
        requests.append(Request(server, "/api/pull", model=f"{registry.name}/library/llama3"))
        requests[-1].read_until(half)
    requests[0].leave()
    registry.hold.set()
    requests[1].read_until(b'{"status":"success"}')
    requests[1].leave()
    digest = weights(registry)["digest"]
    asked = [path for _, path, _ in registry.requests if path == f"/direct/{digest}"]
    assert len(asked) == 1


def test_other_bytes_are_noticed_and_thrown_away(server: Server, registry: Registry) -> None:
    registry.swap = True
    *_, last = server.lines("/api/pull", model=f"{registry.name}/library/llama3")
    assert last["error"].startswith("digest mismatch, file must be downloaded again")
    assert not blob(server, weights(registry)).exists()
    assert server.http.get("/api/tags").json() == {"models": []}


def test_registry_that_names_no_place_is_refused(server: Server, registry: Registry) -> None:
    registry.located = False
    *_, last = server.lines("/api/pull", model=f"{registry.name}/library/llama3")
    assert last == {"error": "http: no Location header in response"}


def test_unknown_model_is_an_error_in_the_stream(server: Server, registry: Registry) -> None:
    body = {"model": f"{registry.name}/library/nosuch"}
    error = {"error": "pull model manifest: file does not exist"}
    response = server.post("/api/pull", **body)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert lines == [{"status": "pulling manifest"}, error]
    whole = server.post("/api/pull", **body, stream=False)
    assert (whole.status_code, whole.json()) == (500, error)


def test_trouble_of_the_registry_is_passed_on(server: Server, registry: Registry) -> None:
    registry.status = 500
    *_, last = server.lines("/api/pull", model=f"{registry.name}/library/llama3")
    assert last == {"error": "pull model manifest: 500: simulated trouble"}


def test_whole_answer_is_the_last_line(server: Server, registry: Registry) -> None:
    whole = server.post("/api/pull", model=f"{registry.name}/me/mine:1b", stream=False)
    assert (whole.status_code, whole.json()) == (200, {"status": "success"})


def test_unreachable_registry(server: Server) -> None:
    *_, last = server.lines("/api/pull", model="127.0.0.1:1/library/x", insecure=True)
    assert last == {
        "error": (
            'pull model manifest: Get "http://127.0.0.1:1/v2/library/x/manifests/latest": '
            "dial tcp 127.0.0.1:1: connect: connection refused"
        )
    }


def test_authority_that_is_not_trusted(tmp_path: Path, registry: Registry) -> None:
    with running_server(tmp_path / "other", []) as server:
        *_, last = server.lines("/api/pull", model=f"{registry.name}/library/llama3")
    assert "tls: failed to verify certificate" in last["error"]


def test_insecure_means_plain_http(tmp_path: Path, server: Server) -> None:
    store = tmp_path / "plain"
    build_store(store, ["llama3"], layer_bytes=LAYER)
    with running_registry(store, None) as registry:
        name = f"{registry.name}/library/llama3"
        assert server.lines("/api/pull", model=name, insecure=True)[-1] == {"status": "success"}


def test_new_version_of_a_tag_removes_what_the_old_one_had(
    server: Server, registry: Registry
) -> None:
    name = f"{registry.name}/library/llama3"
    server.lines("/api/pull", model=name)
    old = blob(server, weights(registry))
    build_store(registry.store, ["llama3"], layer_bytes=LAYER + 1)
    lines = server.lines("/api/pull", model=name)
    assert {"status": "removing unused layers"} in lines
    assert not old.exists()
    assert blob(server, weights(registry)).exists()


def test_invalid_name(server: Server) -> None:
    refused = server.post("/api/pull", model="a b")
    assert (refused.status_code, refused.json()) == (400, {"error": "invalid model name"})
