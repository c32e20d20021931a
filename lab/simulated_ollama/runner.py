"""One loaded model: its slots, the prompts that they remember, and how it answers.

Behaviour: llama-server of llama.cpp b10488 as Ollama v0.33 starts it (`-np`, `cache_prompt`,
`--cache-ram`).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

    from lab.simulated_ollama.answers import Piece
    from lab.simulated_ollama.compute import Compute
    from lab.simulated_ollama.speeds import Speeds

__all__ = ["Metrics", "Runner"]

_PREFILL_BATCH = 512
_SIMILAR = 0.10
"""Share of a prompt that a slot must remember to be chosen for it."""

_DEEP = 4096
_DEPTH_COST = 0.10
"""A model loses about a tenth of its decode speed for each 4096 tokens of context."""

_REQUEST_SECONDS = 0.015
"""Parsing, templating and sampling set-up of one request."""

_MIB = 1 << 20


@dataclass
class Metrics:
    """What one request took; times in seconds, `cached` is a part of `prompt_tokens`."""

    prompt_tokens: int = 0
    cached: int = 0
    prompt_seconds: float = 0.0
    answer_tokens: int = 0
    answer_seconds: float = 0.0


@dataclass(eq=False)
class _Slot:
    """A place for one request; `tokens` is the prompt and answer that its cache holds."""

    index: int
    busy: bool = False
    used_at: float = 0.0
    tokens: list[str] = field(default_factory=list)


class _PromptCache:
    """Evicted prompts in the machine's memory, restored when a prompt begins like one of them."""

    def __init__(self, limit_bytes: int, token_bytes: int) -> None:
        self._limit = limit_bytes // max(token_bytes, 1)
        self._prompts: OrderedDict[int, list[str]] = OrderedDict()
        self._counter = 0

    def save(self, tokens: list[str]) -> None:
        if not tokens or len(tokens) > self._limit:
            return
        self._counter += 1
        self._prompts[self._counter] = tokens
        while sum(map(len, self._prompts.values())) > self._limit:
            self._prompts.popitem(last=False)

    def best(self, prompt: Sequence[str]) -> list[str]:
        return max(self._prompts.values(), key=lambda kept: _common(kept, prompt), default=[])


class Runner:
    """A model in memory with a number of slots; requests beyond them wait in order.

    `waiting` is how many wait now; `prompt_tokens` and `cached_tokens` are totals since the load.
    """

    def __init__(
        self,
        key: str,
        compute: Compute,
        speeds: Speeds,
        slots: int,
        *,
        cache_bytes: int,
        cache_ram: int,
    ) -> None:
        """Create a runner.

        `cache_bytes` is what one token of context takes; `cache_ram` is the limit of the prompt
        cache in MiB.
        """
        self._key = key
        self._compute = compute
        self._speeds = speeds
        self._slots = [_Slot(index) for index in range(slots)]
        self._free = asyncio.Semaphore(slots)
        self._kept = _PromptCache(cache_ram * _MIB, cache_bytes)
        self.waiting = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0

    @property
    def slots(self) -> int:
        """How many requests it answers at a time."""
        return len(self._slots)

    @property
    def busy(self) -> int:
        """How many it answers now."""
        return sum(slot.busy for slot in self._slots)

    async def complete(
        self, prompt: Sequence[str], pieces: Sequence[Piece], metrics: Metrics, factor: float
    ) -> AsyncGenerator[Piece, None]:
        """Wait for a slot, evaluate the prompt, then yield the pieces as fast as the model decodes.

        `metrics` is filled in while it goes on; `factor` slows this request down.
        """
        async with self._slot(prompt) as slot:
            with self._compute.stream(self._key, factor) as pace:
                started = time.monotonic()
                metrics.prompt_tokens = len(prompt)
                # The last token is always evaluated: its result is the first token's distribution.
                metrics.cached = min(_common(slot.tokens, prompt), max(len(prompt) - 1, 0))
                self.prompt_tokens += metrics.prompt_tokens
                self.cached_tokens += metrics.cached
                await pace.spend(_REQUEST_SECONDS)
                await self._prefill(slot, prompt, metrics.cached, pace.spend)
                evaluated = time.monotonic()
                metrics.prompt_seconds = evaluated - started
                for piece in pieces:
                    depth = 1.0 + _DEPTH_COST * len(slot.tokens) / _DEEP
                    await pace.spend(depth / self._speeds.decode)
                    slot.tokens.append(piece.text)
                    metrics.answer_tokens += 1
                    metrics.answer_seconds = time.monotonic() - evaluated
                    yield piece

    async def evaluate(self, tokens: Sequence[str], factor: float) -> None:
        """Run a text through the model without an answer, as an embedding does."""
        async with self._slot(tokens) as slot:
            with self._compute.stream(self._key, factor) as pace:
                await pace.spend(_REQUEST_SECONDS)
                await self._prefill(slot, tokens, 0, pace.spend)

    async def _prefill(
        self,
        slot: _Slot,
        prompt: Sequence[str],
        cached: int,
        spend: Callable[[float], Awaitable[None]],
    ) -> None:
        slot.tokens = list(prompt[:cached])
        for start in range(cached, len(prompt), _PREFILL_BATCH):
            batch = prompt[start : start + _PREFILL_BATCH]
            await spend(len(batch) / self._speeds.prefill)
            slot.tokens.extend(batch)

    @asynccontextmanager
    async def _slot(self, prompt: Sequence[str]) -> AsyncIterator[_Slot]:
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        slot = self._choose(prompt)
        slot.busy = True
        try:
            yield slot
        finally:
            slot.busy = False
            slot.used_at = time.monotonic()
            self._free.release()

    def _choose(self, prompt: Sequence[str]) -> _Slot:
        idle = [slot for slot in self._slots if not slot.busy]
        best = max(idle, key=lambda slot: _common(slot.tokens, prompt))
        if prompt and _common(best.tokens, prompt) / len(prompt) >= _SIMILAR:
            return best
        oldest = min(idle, key=lambda slot: slot.used_at)
        self._kept.save(oldest.tokens)
        oldest.tokens = list(self._kept.best(prompt))
        return oldest


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many tokens two texts begin with in common."""
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return index
    return min(len(one), len(other))
