"""The store on disk, in Ollama's layout: ``manifests/<host>/<namespace>/<model>/<tag>``, ``blobs/``.

It is read anew for every request, so what is placed by hand is seen at once.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lab.simulated_ollama.blob import ModelHeader, read_header
from lab.simulated_ollama.names import ModelName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "MODEL_LAYER",
    "Layer",
    "Manifest",
    "Model",
    "Store",
    "StoreError",
    "Weights",
    "parse_manifest",
]

MODEL_LAYER = "application/vnd.ollama.image.model"

_TEMPLATE_LAYER = "application/vnd.ollama.image.template"
_SYSTEM_LAYER = "application/vnd.ollama.image.system"
_LICENSE_LAYER = "application/vnd.ollama.image.license"
_PARAMS_LAYER = "application/vnd.ollama.image.params"
_PRUNE_GRACE_SECONDS = 3600
_BYTES_PER_PARAMETER = 0.6
"""Of a 4-bit quantisation with its scales."""


class StoreError(Exception):
    """The store cannot be used as it is; the message is Ollama's."""


@dataclass(frozen=True)
class Layer:
    """One entry of a manifest; `digest` starts with ``sha256:``."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """A manifest. `digest` is the sha256 of its file, in hex; `modified_ns` its time of change."""

    name: ModelName
    digest: str
    modified_ns: int
    config: Layer
    layers: tuple[Layer, ...]

    @property
    def everything(self) -> tuple[Layer, ...]:
        """The layers, then the configuration, in the order in which a pull fetches them."""
        return (*self.layers, self.config)

    @property
    def size(self) -> int:
        """Bytes of all layers and of the configuration."""
        return sum(layer.size for layer in self.everything)


class Weights(Enum):
    """In which state the layer with the weights is."""

    WHOLE = "whole"
    SHORT = "short"
    MISSING = "missing"


@dataclass(frozen=True)
class Model:
    """A model as its manifest describes it; without whole weights it has no capabilities."""

    manifest: Manifest
    header: ModelHeader
    config: dict[str, Any]
    template: str
    system: str
    license: str
    params: dict[str, Any]
    weights: Weights = Weights.WHOLE

    @property
    def name(self) -> ModelName:
        """Its name in the store."""
        return self.manifest.name

    @property
    def key(self) -> str:
        """What tells runners apart: the digest of the weights, so aliases share one."""
        return next(
            (x.digest for x in self.manifest.layers if x.media_type == MODEL_LAYER),
            self.manifest.config.digest,
        )

    @property
    def continues_answers(self) -> bool:
        """Whether a trailing message of the assistant is continued instead of answered."""
        return ".Response" in self.template

    def can(self, capability: str) -> bool:
        """Whether the model has a capability, such as ``completion`` or ``tools``."""
        return capability in self.header.capabilities

    @property
    def details(self) -> dict[str, Any]:
        """The `details` of the HTTP interface."""
        return {
            "parent_model": "",
            "format": self.config.get("model_format", "gguf"),
            "family": self.config.get("model_family", self.header.family),
            "families": self.config.get("model_families") or [self.header.family],
            "parameter_size": self.config.get("model_type", self.header.parameter_size),
            "quantization_level": self.config.get("file_type", self.header.quantization),
        }


class Store:
    """Manifests and blobs below one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.manifests = root / "manifests"
        self.blobs = root / "blobs"

    def create(self) -> None:
        """Make the directories.

        Raises:
            OSError: where that is not possible.

        """
        self.manifests.mkdir(parents=True, exist_ok=True)
        self.blobs.mkdir(parents=True, exist_ok=True)

    def blob(self, digest: str) -> Path:
        """Return where the blob of a digest lies."""
        return self.blobs / digest.replace(":", "-", 1)

    def existing_name(self, name: ModelName) -> ModelName:
        """Return the name as it is spelled on disk; the name itself where there is none."""
        if name.path_in(self.manifests).is_file():
            return name
        return next((found for found in self._names() if found.same_as(name)), name)

    def manifest(self, name: ModelName) -> Manifest | None:
        """Return a manifest, or None where there is none."""
        found = self.existing_name(name)
        path = found.path_in(self.manifests)
        try:
            status = path.stat()
        except OSError:
            return None
        return _read_manifest(path, found, status.st_mtime_ns, status.st_size)

    def list(self) -> list[Manifest]:
        """Return every readable manifest, last changed first."""
        found = [manifest for name in self._names() if (manifest := self._readable(name))]
        return sorted(found, key=lambda item: item.modified_ns, reverse=True)

    def model(self, name: ModelName) -> Model | None:
        """Return a model, or None where its manifest, or a blob but the weights, is not there.

        Raises:
            StoreError: where something is there and cannot be read.

        """
        manifest = self.manifest(name)
        return None if manifest is None else self.model_of(manifest)

    def model_of(self, manifest: Manifest) -> Model | None:
        """Return the model of a manifest, or None where a blob but the weights is missing.

        Raises:
            StoreError: where a blob cannot be read.

        """
        try:
            return _read_model(manifest, self.blobs)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{error.strerror}: {error.filename}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"unable to load model: {error}") from None

    def write_manifest(self, name: ModelName, content: bytes) -> None:
        """Write a manifest verbatim."""
        path = name.path_in(self.manifests)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def copy(self, source: ModelName, destination: ModelName) -> bool:
        """Give a model a second name. False where there is no such model."""
        path = self.existing_name(source).path_in(self.manifests)
        if not path.is_file():
            return False
        self.write_manifest(self.existing_name(destination), path.read_bytes())
        return True

    def delete(self, name: ModelName) -> bool:
        """Remove a manifest and the blobs that nothing else needs. False where there is none."""
        manifest = self.manifest(name)
        if manifest is None:
            return False
        path = manifest.name.path_in(self.manifests)
        path.unlink()
        self._remove_empty_parents(path)
        self.remove_unreferenced({layer.digest for layer in manifest.everything})
        return True

    def remove_unreferenced(self, digests: set[str]) -> None:
        """Remove those of the blobs that no manifest needs."""
        for digest in digests - self._referenced():
            self.blob(digest).unlink(missing_ok=True)

    def prune(self) -> int:
        """Remove what an hour ago already was of no use, as a starting server does.

        Nothing is removed while a manifest cannot be read, for it may need any blob.
        """
        if any(self._readable(name) is None for name in self._names()):
            return 0
        needed = {digest.replace(":", "-", 1) for digest in self._referenced()}
        horizon = time.time() - _PRUNE_GRACE_SECONDS
        old = [
            path
            for path in self.blobs.iterdir()
            if path.name not in needed and path.stat().st_mtime < horizon
        ]
        for path in old:
            path.unlink()
        return len(old)

    def _referenced(self) -> set[str]:
        return {layer.digest for item in self.list() for layer in item.everything}

    def _readable(self, name: ModelName) -> Manifest | None:
        try:
            return self.manifest(name)
        except StoreError:
            return None

    def _names(self) -> Iterator[ModelName]:
        for path in sorted(self.manifests.glob("*/*/*/*")):
            name = ModelName(*path.relative_to(self.manifests).parts)
            if name.is_valid and path.is_file():
                yield name

    def _remove_empty_parents(self, path: Path) -> None:
        for parent in path.parents:
            if parent == self.manifests or any(parent.iterdir()):
                return
            parent.rmdir()


@lru_cache(maxsize=1024)
def _read_manifest(path: Path, name: ModelName, modified_ns: int, size: int) -> Manifest:
    del size  # a part of the key: a file replaced within one tick of the clock differs in size
    return parse_manifest(path.read_bytes(), name, modified_ns)


def parse_manifest(content: bytes, name: ModelName, modified_ns: int = 0) -> Manifest:
    """Read a manifest.

    Raises:
        StoreError: where it is none.

    """
    try:
        data = json.loads(content)
        config = _layer(data["config"])
        layers = tuple(_layer(item) for item in data.get("layers") or [])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(_go_error(error)) from None
    return Manifest(name, hashlib.sha256(content).hexdigest(), modified_ns, config, layers)


def _go_error(error: Exception) -> str:
    return "unexpected EOF" if isinstance(error, json.JSONDecodeError) else f"bad manifest: {error}"


def _layer(data: dict[str, Any]) -> Layer:
    return Layer(str(data["mediaType"]), str(data["digest"]), int(data["size"]))


def _read_model(manifest: Manifest, blobs: Path) -> Model:
    def path(layer: Layer) -> Path:
        return blobs / layer.digest.replace(":", "-", 1)

    def text(media_type: str) -> str:
        found = [x for x in manifest.layers if x.media_type == media_type]
        return path(found[0]).read_text(errors="replace") if found else ""

    config = json.loads(path(manifest.config).read_text())
    layer = next((x for x in manifest.layers if x.media_type == MODEL_LAYER), None)
    weights = Weights.MISSING if layer is None else _state(path(layer), layer.size)
    header = None if layer is None or weights is not Weights.WHOLE else read_header(path(layer))
    return Model(
        manifest=manifest,
        header=header or _guess(manifest, config, weights),
        config=config,
        template=text(_TEMPLATE_LAYER) or "{{ .Prompt }}",
        system=text(_SYSTEM_LAYER),
        license=text(_LICENSE_LAYER),
        params=json.loads(text(_PARAMS_LAYER) or "{}"),
        weights=weights,
    )


def _state(path: Path, size: int) -> Weights:
    try:
        return Weights.WHOLE if path.stat().st_size >= size else Weights.SHORT
    except FileNotFoundError:
        return Weights.MISSING


def _guess(manifest: Manifest, config: dict[str, Any], weights: Weights) -> ModelHeader:
    """Describe a model whose weights are not simulated, or not whole, by what else is known."""
    family = str(config.get("model_family", "llama"))
    ability = "embedding" if "bert" in family else "completion"
    return ModelHeader(
        name=manifest.name.shortest,
        family=family,
        parameters=int(manifest.size / _BYTES_PER_PARAMETER),
        parameter_size=config.get("model_type", ""),
        quantization=config.get("file_type", ""),
        nominal_size=manifest.size,
        context_length=8192,
        embedding_length=768,
        cache_bytes=131072,
        capabilities=(ability,) if weights is Weights.WHOLE else (),
    )
