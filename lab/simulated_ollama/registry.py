"""Pulling models: the registry's protocol, downloads in parts that survive an interruption.

Protocol, file names and texts: Ollama v0.33, server/images.go and server/download.go. The weights
are simulated, the transfer is real.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import platform
import random
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lab.simulated_ollama.http_client import HttpError, Response, request
from lab.simulated_ollama.store import StoreError, parse_manifest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from lab.simulated_ollama.names import ModelName
    from lab.simulated_ollama.store import Layer, Store

__all__ = ["Progress", "PullError", "Puller"]

_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_PROGRESS_SECONDS = 0.06
_MOST_PARTS = 16
_LEAST_PART, _MOST_PART = 100 * 1000 * 1000, 1000 * 1000 * 1000
_TRIES = 6
_STALL_SECONDS = 30.0
_DIRECT_SECONDS = 30.0
_MOST_BACKOFF_SECONDS = 10.0
_HASH_BLOCK = 1 << 20

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}

Progress = dict[str, Any]


class PullError(Exception):
    """A pull failed; the message is the one that the stream's last line carries."""


class _NotFoundError(PullError):
    def __init__(self) -> None:
        super().__init__("file does not exist")


@dataclass
class _Part:
    """One range of a blob, as the file ``-partial-N`` holds it."""

    number: int
    offset: int
    size: int
    completed: int = 0

    @property
    def range(self) -> str:
        return f"bytes={self.offset + self.completed}-{self.offset + self.size - 1}"


class _Download:
    """One blob on its way; several pulls may wait for it."""

    def __init__(self, target: Path, digest: str) -> None:
        self._target = target
        self._partial = target.with_name(f"{target.name}-partial")
        self.digest = digest
        self.total = 0
        self.completed = 0
        self.waiters = 0
        self.task: asyncio.Task[None] | None = None
        self._parts: list[_Part] = []

    async def prepare(self, size: Callable[[], Awaitable[int]]) -> None:
        """Find the parts of an earlier attempt, or divide the blob anew."""
        found = sorted(self._target.parent.glob(f"{self._partial.name}-*"))
        self._parts = [_read_part(path) for path in found]
        if not self._parts:
            self._divide(await size())
        self.total = sum(part.size for part in self._parts)
        self.completed = sum(part.completed for part in self._parts)

    async def run(self, direct_url: Callable[[], Awaitable[str]]) -> None:
        """Fetch what is missing and put the blob in its place."""
        with self._partial.open("r+b" if self._partial.exists() else "w+b") as file:
            file.truncate(self.total)
        url = await direct_url()
        missing = [part for part in self._parts if part.completed < part.size]
        tasks = [asyncio.create_task(self._fetch_part(url, part)) for part in missing]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for part in self._parts:
            self._part_file(part).unlink()
        self._partial.rename(self._target)

    def _divide(self, total: int) -> None:
        size = min(max(total // _MOST_PARTS, _LEAST_PART), _MOST_PART)
        for number, offset in enumerate(range(0, total, size)):
            part = _Part(number, offset, min(size, total - offset))
            self._parts.append(part)
            self._write_part(part)

    async def _fetch_part(self, url: str, part: _Part) -> None:
        failures = 0
        while True:
            try:
                await self._fetch_rest(url, part)
            except asyncio.TimeoutError:
                continue
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise PullError(f"write {self._partial}: no space left on device") from None
                raise
            except HttpError as error:
                failures += 1
                if failures == _TRIES:
                    raise PullError(f"max retries exceeded: {error}") from None
                await asyncio.sleep(2.0 ** (failures - 1))
                continue
            return

    async def _fetch_rest(self, url: str, part: _Part) -> None:
        """Fetch the rest of a part; how far it came is noted whatever ends it."""
        try:
            with self._partial.open("r+b") as file:
                file.seek(part.offset + part.completed)
                async with request("GET", url, {"range": part.range}) as response:
                    blocks = response.body()
                    while part.completed < part.size:
                        block = await asyncio.wait_for(_next(blocks), _STALL_SECONDS)
                        block = block[: part.size - part.completed]
                        file.write(block)
                        part.completed += len(block)
                        self.completed += len(block)
        finally:
            self._write_part(part)

    def _part_file(self, part: _Part) -> Path:
        return self._partial.with_name(f"{self._partial.name}-{part.number}")

    def _write_part(self, part: _Part) -> None:
        fields = {"N": part.number, "Offset": part.offset, "Size": part.size}
        content = json.dumps({**fields, "Completed": part.completed}, separators=(",", ":"))
        self._part_file(part).write_text(content + "\n")


class Puller:
    """Fetches models into a store."""

    def __init__(self, store: Store, version: str, *, prune: bool) -> None:
        self._store = store
        self._prune = prune
        machine = _MACHINES.get(platform.machine(), platform.machine())
        self._agent = f"ollama/{version} ({machine} linux) Go/go1.26.0"
        self._downloads: dict[str, _Download] = {}

    async def pull(self, name: ModelName, *, insecure: bool) -> AsyncIterator[Progress]:
        """Fetch a model; yield the lines of progress, without the last one of a failure.

        Raises:
            PullError: where it cannot be had.

        """
        old = self._old_layers(name)
        yield {"status": "pulling manifest"}
        base = f"{'http' if insecure else 'https'}://{name.host}/v2/{name.namespace}/{name.model}"
        content = await self._manifest(f"{base}/manifests/{name.tag}")
        try:
            manifest = parse_manifest(content, name)
        except StoreError as error:
            raise PullError(f"pull model manifest: {error}") from None
        fetched: list[Layer] = []
        for layer in manifest.everything:
            if self._store.blob(layer.digest).exists():
                size = self._store.blob(layer.digest).stat().st_size
                yield _progress(layer.digest, size, size)
                continue
            async for line in self._blob(f"{base}/blobs/{layer.digest}", layer.digest):
                yield line
            fetched.append(layer)
        yield {"status": "verifying sha256 digest"}
        for layer in fetched:
            await self._verify(layer.digest)
        yield {"status": "writing manifest"}
        self._store.write_manifest(name, content)
        if self._prune and old - {layer.digest for layer in manifest.everything}:
            yield {"status": "removing unused layers"}
            self._store.remove_unreferenced(old)
        yield {"status": "success"}

    def _old_layers(self, name: ModelName) -> set[str]:
        try:
            manifest = self._store.manifest(name)
        except StoreError:
            return set()
        return {layer.digest for layer in manifest.everything} if manifest else set()

    async def _manifest(self, url: str) -> bytes:
        try:
            async with self._ask("GET", url, {"accept": _MANIFEST_TYPE}) as response:
                await _check(response)
                return await response.content()
        except (HttpError, PullError) as error:
            raise PullError(f"pull model manifest: {error}") from None

    async def _blob(self, url: str, digest: str) -> AsyncIterator[Progress]:
        """Fetch a blob, together with whoever is fetching it already; yield progress."""
        download = self._downloads.get(digest) or await self._begin(url, digest)
        task = download.task
        if task is None:
            raise PullError("unexpected EOF")
        download.waiters += 1
        try:
            while not (await asyncio.wait({task}, timeout=_PROGRESS_SECONDS))[0]:
                yield _progress(digest, download.total, download.completed)
            if task.cancelled():
                raise PullError("context canceled")
            task.result()
        except HttpError as error:
            raise PullError(str(error)) from None
        finally:
            download.waiters -= 1
            if download.waiters == 0:
                task.cancel()

    async def _begin(self, url: str, digest: str) -> _Download:
        download = _Download(self._store.blob(digest), digest)

        async def size() -> int:
            async with self._ask("HEAD", url) as response:
                await _check(response)
                return int(response.headers.get("content-length", 0))

        try:
            await download.prepare(size)
        except HttpError as error:
            raise PullError(str(error)) from None
        other = self._downloads.get(digest)
        if other is not None:
            return other
        self._downloads[digest] = download
        download.task = asyncio.create_task(download.run(lambda: self._direct_url(url)))
        download.task.add_done_callback(lambda _: self._downloads.pop(digest, None))
        return download

    async def _direct_url(self, url: str) -> str:
        """Ask where the blob really lies; a redirect to another host is not followed."""
        now = asyncio.get_running_loop().time
        deadline = now() + _DIRECT_SECONDS
        tries = 0
        while (found := await self._try_direct_url(url)) is None:
            tries += 1
            pause = min(tries * tries * 0.01, _MOST_BACKOFF_SECONDS) * random.uniform(0.5, 1.5)
            if now() + pause > deadline:
                raise PullError("context deadline exceeded")
            await asyncio.sleep(pause)
        return found

    async def _try_direct_url(self, url: str) -> str | None:
        host = urlsplit(url).hostname

        def follow(target: str) -> bool:
            return urlsplit(target).hostname == host

        try:
            async with self._ask("GET", url, follow=follow) as response:
                return await _location(response)
        except (HttpError, _NotFoundError):
            return None

    async def _verify(self, digest: str) -> None:
        path = self._store.blob(digest)
        found = await asyncio.to_thread(_sha256, path)
        if f"sha256:{found}" == digest:
            return
        path.unlink(missing_ok=True)
        raise PullError(
            f"digest mismatch, file must be downloaded again: want {digest}, got sha256:{found}"
        )

    def _ask(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        follow: Callable[[str], bool] = lambda _: True,
    ) -> AbstractAsyncContextManager[Response]:
        return request(method, url, {"user-agent": self._agent, **(headers or {})}, follow=follow)


async def _check(response: Response) -> None:
    """Raise what Ollama makes of a status that is no success.

    Raises:
        PullError: with the text of that status.

    """
    if response.status == HTTPStatus.NOT_FOUND:
        raise _NotFoundError
    if response.status == HTTPStatus.UNAUTHORIZED:
        raise PullError("unauthorized: access denied")
    if response.status >= HTTPStatus.BAD_REQUEST:
        text = (await response.content()).decode(errors="replace")
        raise PullError(f"{response.status}: {text}")


async def _location(response: Response) -> str:
    await _check(response)
    if response.status not in {HTTPStatus.OK, HTTPStatus.TEMPORARY_REDIRECT}:
        raise PullError(f"unexpected status code {response.status}")
    if not response.location:
        raise PullError("http: no Location header in response")
    return response.location


async def _next(blocks: AsyncIterator[bytes]) -> bytes:
    async for block in blocks:
        return block
    raise HttpError("unexpected EOF")


def _progress(digest: str, total: int, completed: int) -> Progress:
    line: Progress = {"status": f"pulling {digest[7:19]}", "digest": digest}
    if total:
        line["total"] = total
    if completed:
        line["completed"] = completed
    return line


def _read_part(path: Path) -> _Part:
    data = json.loads(path.read_text())
    return _Part(data["N"], data["Offset"], data["Size"], data["Completed"])


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
