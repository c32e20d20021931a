"""Time on the simulated hardware, shared by everything that runs on it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lab.simulated_ollama.speeds import batch_speedup

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Compute", "Pace"]

_LATE = 0.25
"""Seconds behind schedule beyond which a stream does not try to catch up."""


class Compute:
    """The machine: who is working on it now, and how slow that makes each of them."""

    def __init__(self, profile: str, time_scale: float) -> None:
        self.profile = profile
        self.time_scale = time_scale
        self._streams: Counter[str] = Counter()

    async def pass_time(self, seconds: float) -> None:
        """Wait so many seconds of the simulated hardware, undisturbed by others."""
        await asyncio.sleep(seconds * self.time_scale)

    @contextmanager
    def stream(self, runner: str, factor: float = 1.0) -> Iterator[Pace]:
        """Count as one stream of a runner while inside; `factor` slows this stream down."""
        self._streams[runner] += 1
        try:
            yield Pace(self, runner, factor)
        finally:
            self._streams[runner] -= 1
            self._streams = +self._streams

    def slowdown(self, runner: str) -> float:
        """Return how much longer one stream of a runner takes now than alone.

        Streams of one model are decoded as a batch and help each other; models share the rest.
        """
        streams = max(self._streams[runner], 1)
        return streams / batch_speedup(self.profile, streams) * max(len(self._streams), 1)


class Pace:
    """Keeps one stream to its schedule, so that short sleeps do not add up to a long one."""

    def __init__(self, compute: Compute, runner: str, factor: float) -> None:
        self._compute = compute
        self._runner = runner
        self._factor = factor
        self._due = time.monotonic()

    async def spend(self, seconds: float) -> None:
        """Wait as long as work takes now that would take so many seconds alone."""
        share = self._compute.slowdown(self._runner) * self._factor
        self._due += seconds * share * self._compute.time_scale
        now = time.monotonic()
        if self._due < now - _LATE:
            self._due = now
        await asyncio.sleep(max(self._due - now, 0.0))
