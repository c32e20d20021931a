"""What each node has, has loaded, and whether it is well: asked of every node, again and again.

Each node has a task of its own, so that one that hangs delays no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from litellm_plugins.names import canonical_model
from litellm_plugins.routing.nodes import NOT_ASKED, NodeStatus, PulledModel
from litellm_plugins.schema import Fleet, Role
from litellm_plugins.tuning import OLLAMA_PORT

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Address

__all__ = ["Discovery"]

_log = logging.getLogger(__name__)

_ANSWER_SECONDS = 5.0
"""Lists come from Ollama's memory in milliseconds, even while every slot computes; a node that needs
longer than this would not serve a request either."""

_LOST_SECONDS = 10.0
"""A node that is merely slow answers one of several looks within this time."""

_ON_DEMAND_SECONDS = 2.0
"""How long a request for an unknown model may wait for the nodes to be asked again."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_Answer = TypeVar("_Answer", bound=BaseModel)


class _Details(BaseModel):
    family: str = ""


class _Tag(BaseModel):
    name: str
    digest: str = ""
    size: int = 0
    modified_at: datetime = _EPOCH
    details: _Details = _Details()
    capabilities: frozenset[str] | None = None
    remote_host: str | None = None


class _Tags(BaseModel):
    models: tuple[_Tag, ...] | None = ()


class _Running(BaseModel):
    name: str


class _Ps(BaseModel):
    models: tuple[_Running, ...] | None = ()


class _Version(BaseModel):
    version: str


@dataclass
class _Watch:
    """The task that follows one node at one address; setting `wake` makes it look at once."""

    address: IPv4Address
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Discovery:
    """The state of all nodes of a fleet that may change, kept in `statuses` by node.

    `on_change` is called when models have come or gone, `on_return` with a node that answers again.
    """

    def __init__(
        self,
        fleet: Callable[[], Fleet],
        statuses: dict[str, NodeStatus],
        *,
        on_change: Callable[[], None],
        on_return: Callable[[str], None],
    ) -> None:
        self.statuses = statuses
        self.is_ready = False
        self._fleet = fleet
        self._on_change = on_change
        self._on_return = on_return
        self._watches: dict[str, _Watch] = {}
        self._round: asyncio.Task[None] | None = None
        self._client = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=None))

    async def close(self) -> None:
        """Stop following the nodes."""
        tasks = [watch.task for watch in self._watches.values()] + [self._round]
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
        await self._client.aclose()

    def follow_fleet(self) -> None:
        """Follow the nodes that the fleet declares now: new ones too, removed ones no more."""
        declared = self._fleet().nodes_with(Role.INFERENCE)
        for name, watch in list(self._watches.items()):
            if name not in declared or declared[name].address != watch.address:
                self._forget(name)
        for name, node in declared.items():
            if name not in self._watches:
                self._watch(name, node.address)
        self._on_change()

    def look_at(self, node: str) -> None:
        """Ask a node now rather than at its next turn."""
        watch = self._watches.get(node)
        if watch is not None:
            watch.wake.set()

    def is_lost(self, node: str) -> bool:
        """Return whether a node has been silent for so long that nothing more will come of it.

        A node that was taken out of the fleet is not lost: what runs there may end.
        """
        status = self.statuses.get(node)
        if status is None or status is NOT_ASKED or status.is_well:
            return False
        return time.monotonic() - status.unwell_since >= _LOST_SECONDS

    async def refresh(self) -> None:
        """Ask all nodes that are well again, and wait for their answers a short while.

        Requests that want this at the same time share one round.
        """
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._ask_well_nodes())
        await asyncio.wait({self._round}, timeout=_ON_DEMAND_SECONDS)

    def _watch(self, name: str, address: IPv4Address) -> None:
        watch = _Watch(address)
        self.statuses[name] = NOT_ASKED
        self._watches[name] = watch
        watch.task = asyncio.create_task(self._follow(name, watch))

    def _forget(self, name: str) -> None:
        watch = self._watches.pop(name)
        del self.statuses[name]
        if watch.task is not None:
            watch.task.cancel()

    async def _follow(self, name: str, watch: _Watch) -> None:
        while True:
            watch.wake.clear()
            try:
                await self._ask(name, watch)
            except Exception:  # noqa: BLE001 - whatever it is, this node must be asked again
                _log.exception("asking node %s failed", name)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(watch.wake.wait(), self._fleet().routing.refresh_seconds)

    async def _ask_well_nodes(self) -> None:
        await asyncio.gather(
            *(
                self._ask(name, watch)
                for name, watch in list(self._watches.items())
                if self.statuses[name].is_well
            )
        )

    async def _ask(self, name: str, watch: _Watch) -> None:
        connect = self._fleet().routing.connect_timeout_seconds
        timeout = httpx.Timeout(_ANSWER_SECONDS, connect=connect)
        try:
            status = await self._status(f"http://{watch.address}:{OLLAMA_PORT}", timeout)
        except (httpx.HTTPError, ValidationError) as error:
            status = _unwell(self.statuses.get(name, NOT_ASKED), _sentence(error))
        if self._watches.get(name) is watch:
            self._set(name, status)

    async def _status(self, url: str, timeout: httpx.Timeout) -> NodeStatus:
        version, tags, running = await asyncio.gather(
            self._get(f"{url}/api/version", _Version, timeout),
            self._get(f"{url}/api/tags", _Tags, timeout),
            self._get(f"{url}/api/ps", _Ps, timeout),
        )
        return NodeStatus(
            version=version.version,
            # A model with a remote host is answered in a cloud, and nothing leaves the fleet.
            models={
                canonical_model(tag.name): _pulled(tag)
                for tag in tags.models or ()
                if not tag.remote_host
            },
            loaded=frozenset(canonical_model(item.name) for item in running.models or ()),
        )

    async def _get(self, url: str, form: type[_Answer], timeout: httpx.Timeout) -> _Answer:
        response = await self._client.get(url, timeout=timeout)
        response.raise_for_status()
        return form.model_validate_json(response.content)

    def _set(self, name: str, status: NodeStatus) -> None:
        before, self.statuses[name] = self.statuses[name], status
        if status.error != before.error:
            _log.log(
                logging.INFO if status.is_well else logging.WARNING,
                "node %s %s",
                name,
                "is well" if status.is_well else f"does not answer: {status.error}",
            )
        if status.is_well and not before.is_well:
            self._on_return(name)
        if status.models != before.models:
            self._on_change()
        self.is_ready = self.is_ready or NOT_ASKED not in self.statuses.values()


def _unwell(before: NodeStatus, error: str) -> NodeStatus:
    was_well = before.is_well or before is NOT_ASKED
    since = time.monotonic() if was_well else before.unwell_since
    return replace(before, error=error, unwell_since=since, loaded=frozenset())


def _pulled(tag: _Tag) -> PulledModel:
    return PulledModel(
        name=tag.name,
        digest=tag.digest,
        family=tag.details.family,
        size_bytes=tag.size,
        modified=int(tag.modified_at.timestamp()),
        capabilities=tag.capabilities or frozenset(),
    )


def _sentence(error: httpx.HTTPError | ValidationError) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP status {error.response.status_code} for {error.request.url.path}"
    if isinstance(error, ValidationError):
        return f"an answer that is not Ollama's ({error.error_count()} errors in {error.title})"
    return str(error) or type(error).__name__
