"""Which models are in memory: loads one at a time, evictions, and when an idle model leaves.

The rules are those of Ollama v0.33, server/sched.go: a request for a loaded model never queues here
and is never refused; what needs a load waits in one queue with one consumer, so a load that waits
for a busy model to fall idle holds up every load behind it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from lab.simulated_ollama.errors import BUSY, ApiError
from lab.simulated_ollama.runner import Runner
from lab.simulated_ollama.settings import FOREVER
from lab.simulated_ollama.speeds import speeds_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.simulated_ollama.compute import Compute
    from lab.simulated_ollama.hardware import Device
    from lab.simulated_ollama.settings import Settings
    from lab.simulated_ollama.store import Model

__all__ = ["Loaded", "RunnerOptions", "Scheduler"]

_MODELS_PER_GPU = 3
_FIT = 0.8
"""A further model is loaded beside others only if it needs at most this share of free memory."""

_COMPUTE_BYTES = 300 * (1 << 20)
_RECOVERY_SECONDS = 0.5
"""Time a discrete GPU takes to report the memory of an unloaded model as free."""

_CACHE_FACTORS = {"f32": 2.0, "q8_0": 0.53, "q5_0": 0.34, "q4_0": 0.28, "q4_1": 0.31}
_SERIAL_FAMILIES = frozenset(
    {"mllama", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe", "qwen3next", "lfm2", "lfm2moe"}
)


@dataclass(frozen=True)
class RunnerOptions:
    """Options that a runner is started with; another value of any of them needs a reload."""

    num_ctx: int
    num_ctx_auto: bool
    num_batch: int | None = None
    num_gpu: int = -1
    main_gpu: int = 0
    use_mmap: bool | None = None
    num_thread: int = 0
    draft_num_predict: int = 4
    shift: bool = True

    def needs_reload(self, wanted: RunnerOptions) -> bool:
        """Whether a runner with these options cannot serve a request with the wanted ones."""
        if self.num_ctx_auto and wanted.num_ctx_auto:
            wanted = replace(wanted, num_ctx=self.num_ctx)
        if wanted.num_gpu == -1:
            wanted = replace(wanted, num_gpu=self.num_gpu)
        return replace(self, num_ctx_auto=False) != replace(wanted, num_ctx_auto=False)


@dataclass(eq=False)
class Loaded:
    """A model in memory.

    `keep_alive` is in seconds; `expires_at` in seconds since the epoch, None while it has never
    been idle; `size` and `size_vram` are in bytes.
    """

    model: Model
    options: RunnerOptions
    runner: Runner
    keep_alive: float
    size: int
    size_vram: int
    gone: asyncio.Event
    users: int = 0
    expires_at: float | None = None
    timer: asyncio.TimerHandle | None = None

    @property
    def key(self) -> str:
        """What it is found by."""
        return self.model.key


@dataclass(eq=False)
class _Pending:
    """A request that waits for a load; `loading` is the load once it is under way."""

    model: Model
    options: RunnerOptions
    keep_alive: float | None
    ready: asyncio.Future[Loaded]
    loading: asyncio.Task[None] | None = None


class Scheduler:
    """The models of one machine."""

    def __init__(
        self, settings: Settings, device: Device, compute: Compute, log: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._device = device
        self._compute = compute
        self._log = log
        self._loaded: dict[str, Loaded] = {}
        self._queue: asyncio.Queue[_Pending] = asyncio.Queue()
        self._consumer: asyncio.Task[None] | None = None
        self.loads = 0
        self.loading: str | None = None

    @property
    def loaded(self) -> list[Loaded]:
        """What is in memory, in order of loading."""
        return list(self._loaded.values())

    @property
    def queued(self) -> int:
        """How many requests wait for a load decision."""
        return self._queue.qsize()

    def start(self) -> None:
        """Begin to serve the queue."""
        self._consumer = asyncio.create_task(self._consume())

    async def acquire(
        self, model: Model, options: RunnerOptions, keep_alive: float | None
    ) -> Loaded:
        """Return the model in memory, counted as in use until `release`.

        Raises:
            ApiError: 503 where too many requests wait for a load already.

        """
        options = replace(options, num_ctx=min(options.num_ctx, model.header.context_length))
        loaded = self._loaded.get(model.key)
        if loaded is not None and not loaded.options.needs_reload(options):
            return self._use(loaded, keep_alive)
        if self._queue.qsize() >= self._settings.max_queue:
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, BUSY)
        pending = _Pending(model, options, keep_alive, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(pending)
        try:
            return await pending.ready
        except asyncio.CancelledError:
            self._abandon(pending)
            raise

    def release(self, loaded: Loaded) -> None:
        """Return what `acquire` gave; the last one out starts the clock of its keep-alive."""
        loaded.users -= 1
        if loaded.users > 0:
            return
        if loaded.keep_alive <= 0:
            self._unload(loaded)
            return
        loaded.expires_at = time.time() + loaded.keep_alive
        if loaded.keep_alive == FOREVER:
            return
        loop = asyncio.get_running_loop()
        loaded.timer = loop.call_later(loaded.keep_alive, self._unload, loaded)

    def expire(self, model: Model) -> None:
        """Unload a model as soon as nobody uses it."""
        loaded = self._loaded.get(model.key)
        if loaded is not None:
            self._let_go(loaded)

    def default_context(self) -> int:
        """Return the context that a request gets which names none, in tokens."""
        if self._settings.context_length:
            return self._settings.context_length
        total = self._device.total_bytes if self._device.is_gpu else 0
        tiers = ((47 << 30, 262144), (23 << 30, 32768))
        return next((tokens for least, tokens in tiers if total >= least), 4096)

    def _use(self, loaded: Loaded, keep_alive: float | None) -> Loaded:
        loaded.users += 1
        if loaded.timer is not None:
            loaded.timer.cancel()
            loaded.timer = None
        if keep_alive is not None:
            loaded.keep_alive = keep_alive
        return loaded

    def _abandon(self, pending: _Pending) -> None:
        """Forget a request whose client left; a load for it alone is stopped and not kept."""
        if pending.ready.done() and not pending.ready.cancelled():
            self.release(pending.ready.result())
            return
        pending.ready.cancel()
        if pending.loading is not None:
            pending.loading.cancel()

    async def _consume(self) -> None:
        while True:
            pending = await self._queue.get()
            while not pending.ready.done():
                await self._advance(pending)

    async def _advance(self, pending: _Pending) -> None:
        """Take one step towards serving a request: use, evict, or load."""
        loaded = self._loaded.get(pending.model.key)
        if loaded is not None and not loaded.options.needs_reload(pending.options):
            pending.ready.set_result(self._use(loaded, pending.keep_alive))
            return
        if loaded is not None:
            await self._evict(loaded)
            return
        if self._loaded and (len(self._loaded) >= self._most() or not self._fits(pending)):
            await self._evict(self._victim())
            return
        pending.loading = asyncio.create_task(self._load(pending))
        await asyncio.wait({pending.loading})
        if not pending.loading.cancelled() and (error := pending.loading.exception()):
            pending.ready.set_exception(error)

    def _most(self) -> int:
        return self._settings.max_loaded_models or _MODELS_PER_GPU

    def _victim(self) -> Loaded:
        ordered = sorted(self._loaded.values(), key=lambda item: (item.keep_alive, item.key))
        return next((item for item in ordered if item.users == 0), ordered[0])

    async def _evict(self, loaded: Loaded) -> None:
        self._let_go(loaded)
        await loaded.gone.wait()
        if self._device.kind == "discrete":
            await self._compute.pass_time(_RECOVERY_SECONDS)

    def _let_go(self, loaded: Loaded) -> None:
        loaded.keep_alive = 0
        if loaded.users == 0:
            self._unload(loaded)

    def _unload(self, loaded: Loaded) -> None:
        if loaded.timer is not None:
            loaded.timer.cancel()
        if self._loaded.get(loaded.key) is loaded:
            del self._loaded[loaded.key]
        loaded.gone.set()

    async def _load(self, pending: _Pending) -> None:
        model = pending.model
        options = pending.options
        size = self._bytes_needed(model, options)
        in_vram = self._bytes_in_vram(size, options)
        speeds = speeds_of(
            self._device.profile if in_vram else "cpu",
            model.header.parameters / 1e9,
            model.header.nominal_size,
            in_vram / size if in_vram else 1.0,
        )
        self.loading = model.name.shortest
        started = time.monotonic()
        try:
            await self._compute.pass_time(speeds.load_seconds)
        except asyncio.CancelledError:
            self._log(
                "client connection closed before llama-server finished loading, aborting load"
            )
            raise
        finally:
            self.loading = None
        self.loads += 1
        self._log(f"llama-server started in {time.monotonic() - started:.2f} seconds (simulated)")
        loaded = Loaded(
            model=model,
            options=options,
            runner=Runner(
                model.key,
                self._compute,
                speeds,
                self._slots(model),
                cache_bytes=self._cache_bytes(model),
                cache_ram=self._settings.cache_ram_mib,
            ),
            keep_alive=self._settings.keep_alive,
            size=size,
            size_vram=in_vram,
            gone=asyncio.Event(),
        )
        self._loaded[model.key] = loaded
        pending.ready.set_result(self._use(loaded, pending.keep_alive))

    def _slots(self, model: Model) -> int:
        is_serial = model.header.family in _SERIAL_FAMILIES or not model.can("completion")
        return 1 if is_serial else max(self._settings.num_parallel, 1)

    def _cache_bytes(self, model: Model) -> int:
        factor = _CACHE_FACTORS.get(self._settings.kv_cache_type, 1.0)
        return int(model.header.cache_bytes * factor)

    def _bytes_needed(self, model: Model, options: RunnerOptions) -> int:
        cache = self._cache_bytes(model) * options.num_ctx * self._slots(model)
        return model.header.nominal_size + cache + _COMPUTE_BYTES

    def _free_bytes(self) -> int:
        return self._device.total_bytes - sum(item.size_vram for item in self._loaded.values())

    def _fits(self, pending: _Pending) -> bool:
        """Whether a model may be loaded beside others; on a CPU Ollama does not ask."""
        if not self._device.is_gpu:
            return True
        needed = self._bytes_needed(pending.model, pending.options)
        return needed <= _FIT * self._free_bytes()

    def _bytes_in_vram(self, size: int, options: RunnerOptions) -> int:
        if not self._device.is_gpu or options.num_gpu == 0:
            return 0
        return max(min(size, self._free_bytes()), 0)
