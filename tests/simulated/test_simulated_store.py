"""What is in the store, how it is listed, and what happens to it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest
from simulated_server import LAYER_BYTES, Server, running_server

from lab.model_store import build_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIBRARY = "manifests/registry.ollama.ai/library"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(tmp_path, ["llama3"]) as running:
        yield running


def names(server: Server) -> list[str]:
    return [model["name"] for model in server.http.get("/api/tags").json()["models"]]


def weights_of(server: Server, model: str) -> Path:
    manifest = json.loads((server.models / LIBRARY / model / "latest").read_text())
    digest = manifest["layers"][0]["digest"]
    return server.models / "blobs" / digest.replace(":", "-")


def test_liveness(server: Server) -> None:
    root = server.http.get("/")
    assert (root.text, root.headers["content-type"]) == (
        "Ollama is running",
        "text/plain; charset=utf-8",
    )
    assert server.http.head("/").status_code == 200
    assert server.http.get("/api/version").json() == {"version": "0.0.0-simulated"}
    assert server.http.head("/api/version").status_code == 200
    status = {"cloud": {"disabled": False, "source": "none"}}
    assert server.http.get("/api/status").json() == status


def test_empty_store(tmp_path: Path) -> None:
    with running_server(tmp_path, []) as server:
        assert server.http.get("/api/tags").json() == {"models": []}
        assert server.http.get("/api/ps").json() == {"models": []}
        assert server.http.get("/v1/models").json() == {"object": "list", "data": None}


def test_tags_name_the_digest_of_the_manifest_and_the_real_size(server: Server) -> None:
    (model,) = server.http.get("/api/tags").json()["models"]
    manifest = (server.models / LIBRARY / "llama3" / "latest").read_bytes()
    layers = json.loads(manifest)
    expected = sum(layer["size"] for layer in [*layers["layers"], layers["config"]])
    assert model["digest"] == hashlib.sha256(manifest).hexdigest()
    assert model["size"] == expected
    assert model["name"] == model["model"] == "llama3:latest"
    assert model["details"] == {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "8.03B",
        "quantization_level": "Q4_0",
        "context_length": 8192,
        "embedding_length": 4096,
    }
    assert model["capabilities"] == ["completion"]


def test_what_is_placed_by_hand_is_there_at_once_last_changed_first(server: Server) -> None:
    build_store(server.models, ["mistral"], layer_bytes=LAYER_BYTES)
    manifest = server.models / LIBRARY / "mistral" / "latest"
    os.utime(manifest, (time.time() + 60, time.time() + 60))
    assert names(server) == ["mistral:latest", "llama3:latest"]
    assert server.chat("mistral").status_code == 200
    manifest.unlink()
    assert names(server) == ["llama3:latest"]
    assert server.chat("mistral").status_code == 404


@pytest.mark.parametrize(
    "name",
    ["llama3", "LLaMA3", "library/llama3", "llama3:latest", "registry.ollama.ai/library/llama3"],
)
def test_one_model_has_many_spellings(server: Server, name: str) -> None:
    assert server.chat(name).json()["model"] == name


def test_models_outside_the_library_keep_their_namespace(server: Server) -> None:
    build_store(server.models, ["me/mine:1b", "localhost:5000/a/b"], layer_bytes=LAYER_BYTES)
    assert set(names(server)) == {"llama3:latest", "me/mine:1b", "localhost:5000/a/b:latest"}
    owners = {item["owned_by"] for item in server.http.get("/v1/models").json()["data"]}
    assert owners == {"library", "me", "a"}


def test_show_describes_a_model(server: Server) -> None:
    shown = server.post("/api/show", model="llama3").json()
    assert shown["details"]["family"] == "llama"
    assert shown["model_info"]["llama.context_length"] == 8192
    assert shown["capabilities"] == ["completion"]
    assert ".Response" in shown["template"]
    assert "simulated" in shown["modelfile"]
    assert server.post("/api/show", name="llama3").json() == shown


def test_copy_shares_the_blobs_and_delete_leaves_shared_ones(server: Server) -> None:
    blobs = set((server.models / "blobs").iterdir())
    copied = server.post("/api/copy", source="llama3", destination="mine")
    assert (copied.status_code, copied.content) == (200, b"")
    assert set(names(server)) == {"llama3:latest", "mine:latest"}
    digests = {model["digest"] for model in server.http.get("/api/tags").json()["models"]}
    assert len(digests) == 1
    assert server.http.request("DELETE", "/api/delete", json={"model": "llama3"}).content == b""
    assert names(server) == ["mine:latest"]
    assert set((server.models / "blobs").iterdir()) == blobs
    assert server.http.request("DELETE", "/api/delete", json={"model": "mine"}).status_code == 200
    assert list((server.models / "blobs").iterdir()) == []
    gone = server.http.request("DELETE", "/api/delete", json={"model": "mine"})
    assert (gone.status_code, gone.json()) == (404, {"error": "model 'mine' not found"})


def test_alias_shares_the_runner(server: Server) -> None:
    server.post("/api/copy", source="llama3", destination="mine")
    server.chat("llama3")
    server.chat("mine")
    assert server.state()["loads"] == 1


def test_model_first_seen_without_weights_stays_unable_to_chat(server: Server) -> None:
    server.add("mistral")
    weights = weights_of(server, "mistral")
    aside = weights.with_name("aside")
    weights.rename(aside)
    unable = {"error": '"mistral" does not support chat'}
    assert (server.chat("mistral").status_code, server.chat("mistral").json()) == (400, unable)
    assert server.post("/api/show", model="mistral").status_code == 404
    assert "mistral:latest" in names(server)
    aside.rename(weights)
    assert server.chat("mistral").json() == unable


def test_weights_cut_short_count_as_none(server: Server) -> None:
    server.add("mistral")
    weights = weights_of(server, "mistral")
    weights.write_bytes(weights.read_bytes()[:-100])
    assert server.chat("mistral").status_code == 400


def test_weights_that_go_later_are_missed_until_they_are_back(server: Server) -> None:
    assert server.chat("llama3").status_code == 200
    weights = weights_of(server, "llama3")
    whole = weights.read_bytes()
    weights.unlink()
    missing = server.chat("llama3")
    assert missing.status_code == 404
    assert missing.json() == {"error": 'model "llama3" not found, try pulling it first'}
    weights.write_bytes(whole[:-100])
    short = server.chat("llama3")
    assert (short.status_code, short.json()) == (500, {"error": "EOF"})
    weights.write_bytes(whole)
    assert server.chat("llama3").status_code == 200


def test_broken_manifest_is_an_error_and_not_listed(server: Server) -> None:
    server.add("mistral")
    (server.models / LIBRARY / "mistral" / "latest").write_text('{"schemaVersion":2,')
    assert names(server) == ["llama3:latest"]
    broken = server.chat("mistral")
    assert (broken.status_code, broken.json()) == (500, {"error": "unexpected EOF"})


@pytest.mark.parametrize("keep", [False, True])
def test_start_removes_old_useless_blobs_only(tmp_path: Path, *, keep: bool) -> None:
    models = tmp_path / "models"
    build_store(models, ["llama3"], layer_bytes=LAYER_BYTES)
    used = set((models / "blobs").iterdir())
    old, partial, new = (
        models / "blobs" / name
        for name in (f"sha256-{'0' * 64}", f"sha256-{'1' * 64}-partial", f"sha256-{'2' * 64}")
    )
    for path in (old, partial, new):
        path.write_bytes(b"x")
    two_hours_ago = time.time() - 7200
    for path in (old, partial, *used):
        os.utime(path, (two_hours_ago, two_hours_ago))
    with running_server(tmp_path, [], **({"OLLAMA_NOPRUNE": "1"} if keep else {})):
        left = set((models / "blobs").iterdir())
    assert left == used | {new} | ({old, partial} if keep else set())


def test_start_removes_nothing_while_a_manifest_is_broken(tmp_path: Path) -> None:
    models = tmp_path / "models"
    build_store(models, ["llama3"], layer_bytes=LAYER_BYTES)
    shutil.copytree(models / LIBRARY / "llama3", models / LIBRARY / "broken")
    (models / LIBRARY / "broken" / "latest").write_text("{")
    old = models / "blobs" / f"sha256-{'0' * 64}"
    old.write_bytes(b"x")
    os.utime(old, (0, 0))
    with running_server(tmp_path, []):
        assert old.exists()
