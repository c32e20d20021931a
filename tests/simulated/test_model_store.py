"""The builder of stores."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from lab.model_store import DEFAULT_LAYER_BYTES, build_store, known_models, model_header
from lab.simulated_ollama.blob import read_header
from lab.simulated_ollama.names import parse_name

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "application/vnd.ollama.image.model"


def test_store_has_the_layout_of_the_real_one(tmp_path: Path) -> None:
    digests = build_store(tmp_path, ["llama3", "me/mine:2b"], layer_bytes=5000)
    assert set(digests) == {"llama3:latest", "me/mine:2b"}
    for name, digest in digests.items():
        manifest = parse_name(name).path_in(tmp_path / "manifests").read_bytes()
        assert hashlib.sha256(manifest).hexdigest() == digest
        data = json.loads(manifest)
        assert data["schemaVersion"] == 2
        assert data["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
        for layer in [*data["layers"], data["config"]]:
            content = (tmp_path / "blobs" / layer["digest"].replace(":", "-")).read_bytes()
            assert f"sha256:{hashlib.sha256(content).hexdigest()}" == layer["digest"]
            assert len(content) == layer["size"]


def test_weights_say_what_they_stand_for(tmp_path: Path) -> None:
    build_store(tmp_path, ["llama3"], layer_bytes=5000)
    manifest = parse_name("llama3").path_in(tmp_path / "manifests").read_text()
    (layer,) = [item for item in json.loads(manifest)["layers"] if item["mediaType"] == MODEL]
    path = tmp_path / "blobs" / layer["digest"].replace(":", "-")
    assert path.read_bytes().startswith(b'{"cache_bytes": 131072')
    assert b'"format": "simulated-model"' in path.read_bytes()
    assert read_header(path) == model_header("llama3")
    assert (layer["size"], model_header("llama3").nominal_size) == (5000, 4_660_000_000)


def test_same_names_give_the_same_digests_wherever(tmp_path: Path) -> None:
    names = ["llama3", "some:13b"]
    first = build_store(tmp_path / "first", names, layer_bytes=5000)
    second = build_store(tmp_path / "second", reversed(names), layer_bytes=5000)
    assert first == second
    assert len(set(first.values())) == 2
    assert build_store(tmp_path / "third", ["llama3"], layer_bytes=6000) != first


def test_layers_are_small_by_default(tmp_path: Path) -> None:
    build_store(tmp_path, ["llama3"])
    largest = max(path.stat().st_size for path in (tmp_path / "blobs").iterdir())
    assert largest == DEFAULT_LAYER_BYTES


@pytest.mark.parametrize("name", known_models())
def test_catalogue_hangs_together(name: str) -> None:
    header = model_header(name)
    bytes_per_parameter = header.nominal_size / header.parameters
    assert 0.5 < bytes_per_parameter < 2.1
    assert header.context_length >= 2048
    assert ("embedding" in header.capabilities) != ("completion" in header.capabilities)


@pytest.mark.parametrize(
    ("name", "parameters", "size"),
    [
        ("qwen3:4b", 4_000_000_000, "4B"),
        ("some-13b-chat", 13_000_000_000, "13B"),
        ("tiny:350m", 350_000_000, "350M"),
        ("whatever", 7_000_000_000, "7B"),
        ("phi4:14b-q8_0", 14_000_000_000, "14B"),
    ],
)
def test_unknown_models_are_guessed_from_their_name(name: str, parameters: int, size: str) -> None:
    header = model_header(name)
    assert (header.parameters, header.parameter_size) == (parameters, size)
    assert "completion" in header.capabilities


def test_unknown_embedding_models_are_recognised() -> None:
    assert model_header("mxbai-embed-large").capabilities == ("embedding",)


def test_invalid_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="invalid model name: 'a b'"):
        build_store(tmp_path, ["a b"])
