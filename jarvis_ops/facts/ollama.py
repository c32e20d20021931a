"""What is installed and stored of Ollama."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import shlex
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import FactBase
from typing_extensions import override

from jarvis_ops.facts.value import Value
from jarvis_ops.text import script
from litellm_plugins.names import canonical_model

__all__ = ["ModelStore", "ModelStores", "ReleaseStates", "Releases", "ServerVersion", "StoredModel"]


_BLOCK = 512


@dataclass(frozen=True)
class Releases(Value):
    """Releases in their directories.

    `installed` maps a version to its archives' sha256 by name; a directory without a record of
    ours has none. `current` and `previous` are where the links point, `command` is what
    the program on the PATH is linked to: each is None if it is not a link. `incoming` is what an
    unfinished installation takes, in bytes; `upstream_store` is where the vendor's installation
    script has models kept, if there are any.
    """

    installed: dict[str, dict[str, str]] = field(default_factory=dict)
    current: str | None = None
    previous: str | None = None
    command: str | None = None
    incoming: int = 0
    upstream_store: str | None = None


class ReleaseStates(FactBase[Releases]):
    """The releases of Ollama below a directory, and which of them is the live one."""

    default = Releases

    @override
    def command(self, root: str, link: str) -> str:
        return script("releases.sh", (root, link))

    @override
    def process(self, output: list[str]) -> Releases:
        installed: dict[str, dict[str, str]] = {}
        archives: dict[str, str] = {}
        found: dict[str, str | None] = {}
        for key, _, value in (line.partition("=") for line in output):
            if key == "release":
                archives = installed.setdefault(value, {})
            elif key == "archive":
                sha256, name = value.split()
                archives[name] = sha256
            else:
                found[key] = value or None
        return Releases(
            installed=installed,
            current=found.get("current"),
            previous=found.get("previous"),
            command=found.get("command"),
            incoming=int(found.get("incoming") or 0),
            upstream_store=found.get("upstream_store"),
        )


class ServerVersion(FactBase[str | None]):
    """The version that a server answers with, or None if it does not answer within seconds."""

    @override
    def command(self, url: str) -> str:
        return f"curl -sS --noproxy '*' --max-time 5 {shlex.quote(url + '/api/version')} || true"

    @override
    def process(self, output: list[str]) -> str | None:
        try:
            version = json.loads("\n".join(output))["version"]
        except (ValueError, TypeError, KeyError):
            return None
        return version if isinstance(version, str) else None


@dataclass(frozen=True)
class StoredModel(Value):
    """A model on disk. `digest` is its manifest's sha256; `damaged` are blobs of a wrong size."""

    digest: str
    is_whole: bool
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelStore(Value):
    """The models of a store by canonical name in lower case, and all blobs with their bytes.

    `orphans` are the blobs that no manifest names: what a pull that was cut off has left.
    `partial` is what unfinished downloads take, in bytes.
    """

    models: dict[str, StoredModel] = field(default_factory=dict)
    blobs: dict[str, int] = field(default_factory=dict)
    orphans: tuple[str, ...] = ()
    partial: int = 0


class ModelStores(FactBase[ModelStore]):
    """What a model store holds, read from its files: it needs no running server."""

    default = ModelStore

    @override
    def command(self, path: str) -> str:
        return script("store.sh", (path,))

    @override
    def process(self, output: list[str]) -> ModelStore:
        # What a power cut has emptied has nothing in the last column.
        rows = [f"{line} ".split(" ") for line in output]
        blobs = {row[1]: int(row[2]) for row in rows if row[0] == "blob"}
        manifests = {row[1]: _Manifest.read(row[2]) for row in rows if row[0] == "manifest"}
        readable = {path: item for path, item in manifests.items() if item is not None}
        named = {blob for item in readable.values() for blob in item.sizes}
        return ModelStore(
            models={_name(path): item.state(blobs) for path, item in readable.items()},
            blobs=blobs,
            orphans=tuple(sorted(set(blobs) - named)),
            partial=sum(int(row[1]) * _BLOCK for row in rows if row[0] == "partial"),
        )


@dataclass(frozen=True)
class _Manifest:
    digest: str
    sizes: dict[str, int]

    @classmethod
    def read(cls, encoded: str) -> _Manifest | None:
        """Return None for what is not a manifest, such as a file that a power cut has emptied."""
        try:
            text = base64.b64decode(encoded, validate=True)
            content: dict[str, Any] = json.loads(text)
            parts = [content["config"], *content["layers"]]
            sizes = {part["digest"].replace(":", "-"): int(part["size"]) for part in parts}
        except (binascii.Error, ValueError, TypeError, KeyError, AttributeError):
            return None
        return cls(hashlib.sha256(text).hexdigest(), sizes)

    def state(self, blobs: dict[str, int]) -> StoredModel:
        damaged = [name for name, size in self.sizes.items() if blobs.get(name, size) != size]
        return StoredModel(
            digest=self.digest,
            is_whole=not damaged and self.sizes.keys() <= blobs.keys(),
            damaged=tuple(damaged),
        )


def _name(path: str) -> str:
    model, _, tag = path.rpartition("/")
    return canonical_model(f"{model}:{tag}").casefold()
