"""What a node has still to fetch, and whether it can: asked before anything is changed."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from jarvis_ops.facts.replies import Reply
from jarvis_ops.ollama import ROOT, Archive

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jarvis_ops.facts.machine import Space
    from jarvis_ops.facts.ollama import ModelStore, Releases

__all__ = ["Supply", "WantedModel"]

_UNPACKED = 4.5
"""Disk that an archive of Ollama needs, itself included, as a multiple of its size.

The libraries for GPUs compress to about a third; the rest is room for releases that grow.
"""

_OK = 200
_NOT_FOUND = 404
_GB = 1e9
_MB = 1e6

_SUMS = "sha256sum.txt"
_SUMS_LINE = re.compile(r"^([0-9a-f]{64}) [ *](?:\./)?(\S+)$", re.MULTILINE)

_OWN_REGISTRY = re.compile(r"^[^/]+[.:][^/]*/|^[^/]+/[^/]+/")
"""Names that begin with the host of another registry, which need not speak Ollama's protocol."""


@dataclass(frozen=True)
class WantedModel:
    """A model that a node shall have; `digest` is the sha256 of its manifest, None for any."""

    name: str
    digest: str | None = None


@dataclass(frozen=True)
class Supply:
    """What is missing on a node: the archives of a release, and models.

    `release_url` and `registry_url` are the inventory's.
    """

    version: str
    release_url: str
    registry_url: str
    archives: tuple[Archive, ...] = ()
    models: tuple[WantedModel, ...] = ()

    @property
    def requests(self) -> tuple[tuple[str, str], ...]:
        """What the web has to be asked: pairs of method and URL."""
        return (
            *((("GET", self._url(_SUMS)),) if self.archives else ()),
            *(("HEAD", self._url(archive.name)) for archive in self.archives),
            *(("GET", self._manifest_url(model)) for model in self._asked_models),
        )

    def problems(
        self,
        replies: Sequence[Reply],
        releases: Releases,
        store: ModelStore,
        spaces: dict[str, Space],
        models_path: str,
    ) -> Iterator[str]:
        """Yield a sentence for each thing that cannot be had or does not fit on the disk."""
        # A host that stops in the middle leaves some unanswered.
        complete = chain(replies, repeat(Reply(None)))
        answered = {url: reply for (_, url), reply in zip(self.requests, complete, strict=False)}
        problems = [*self._release_problems(answered), *self._model_problems(answered)]
        yield from problems
        if problems:
            return
        yield from _space_problems(
            {
                ROOT: self._release_bytes(answered) - releases.incoming,
                models_path: self._model_bytes(answered, store) - store.partial,
            },
            spaces,
        )

    @property
    def _asked_models(self) -> list[WantedModel]:
        return [model for model in self.models if not _OWN_REGISTRY.match(model.name)]

    def _url(self, name: str) -> str:
        return f"{self.release_url}/v{self.version}/{name}"

    def _manifest_url(self, model: WantedModel) -> str:
        name, _, tag = model.name.rpartition(":")
        path = name if "/" in name else f"library/{name}"
        return f"{self.registry_url}/v2/{path}/manifests/{tag}"

    def _release_problems(self, answered: dict[str, Reply]) -> Iterator[str]:
        if not self.archives:
            return
        sums_url = self._url(_SUMS)
        sums = answered[sums_url]
        heads = {archive: answered[self._url(archive.name)] for archive in self.archives}
        if sums.status == _NOT_FOUND and all(item.status == _NOT_FOUND for item in heads.values()):
            yield f"ollama.version: there is no release {self.version} at {self.release_url}"
            return
        for archive, head in heads.items():
            if head.status != _OK:
                yield _refused(self._url(archive.name), head)
        # A mirror of one's own may lack the file; it is not needed where everything is pinned.
        if sums.status == _NOT_FOUND and all(archive.sha256 for archive in self.archives):
            return
        if sums.status != _OK:
            yield _refused(sums_url, sums)
            return
        published = {name: sha256 for sha256, name in _SUMS_LINE.findall(sums.body.decode())}
        for archive in self.archives:
            yield from _checksum_problems(archive, published.get(archive.name), sums_url)

    def _model_problems(self, answered: dict[str, Reply]) -> Iterator[str]:
        for model in self._asked_models:
            url = self._manifest_url(model)
            reply = answered[url]
            found = hashlib.sha256(reply.body).hexdigest()
            if reply.status == _NOT_FOUND:
                yield (
                    f"model {model.name!r} is declared for this node, and {self.registry_url} does "
                    "not have it; correct its name in the inventory"
                )
            elif reply.status != _OK:
                yield _refused(url, reply)
            elif model.digest not in {None, found}:
                yield (
                    f"models.{model.name}.digest: the inventory expects {model.digest}, but the "
                    f"registry has {found}"
                )

    def _release_bytes(self, answered: dict[str, Reply]) -> int:
        lengths = [answered[self._url(archive.name)].length or 0 for archive in self.archives]
        return int(sum(lengths) * _UNPACKED)

    def _model_bytes(self, answered: dict[str, Reply], store: ModelStore) -> int:
        sizes: dict[str, int] = {}
        for model in self._asked_models:
            sizes.update(_blob_sizes(answered[self._manifest_url(model)].body))
        return sum(size for blob, size in sizes.items() if store.blobs.get(blob) != size)


def _refused(url: str, reply: Reply) -> str:
    if reply.status is None:
        return f"{url} cannot be reached from this node: {reply.error or 'no answer'}"
    return f"{url} answers with status {reply.status}"


def _checksum_problems(archive: Archive, published: str | None, sums_url: str) -> Iterator[str]:
    if published is None:
        if archive.sha256 is None:
            yield f"{sums_url} does not name {archive.name}"
        return
    if archive.sha256 not in {None, published}:
        yield (
            f"ollama.sha256.{archive.name}: the inventory says {archive.sha256}, but the release's "
            f"{_SUMS} says {published}"
        )


def _blob_sizes(manifest: bytes) -> dict[str, int]:
    try:
        content: dict[str, Any] = json.loads(manifest)
        parts = [content["config"], *content["layers"]]
        return {part["digest"].replace(":", "-"): int(part["size"]) for part in parts}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _space_problems(needed: dict[str, int], spaces: dict[str, Space]) -> Iterator[str]:
    by_device: dict[int, list[str]] = defaultdict(list)
    for path, size in needed.items():
        if path in spaces and size > 0:
            by_device[spaces[path].device].append(path)
    for paths in by_device.values():
        bytes_needed = sum(needed[path] for path in paths)
        free = min(spaces[path].free for path in paths)
        if bytes_needed > free:
            yield (
                f"too little disk for {' and '.join(paths)}: {_size(bytes_needed)} are needed, "
                f"{_size(free)} are free"
            )


def _size(count: int) -> str:
    return f"{count / _GB:.1f} GB" if count >= _GB else f"{count / _MB:.1f} MB"
