"""How fast each kind of machine is, for each size of model.

Anchors are public measurements with llama.cpp and Ollama; between two of them the rates are
interpolated, beyond the last one they fall as memory bandwidth does: in proportion to the bytes.
"Estimated" marks what nobody is known to have measured. Sources, all on github.com unless said:

- strix-halo: AMD-Ecosystem/llama.cpp pull 59 (July 2026) for 7-8B; kyuz0/amd-strix-halo-toolboxes
  (May 2026 and August 2025) for 31B, 70B and the loads; lhl/strix-halo-testing (August 2025) for
  the batches of 1, 2, 4 and 8.
- amd-igpu: msf.github.io, local-llm-performance-framework13 (February 2026), 890M at mains power.
- cpu: brand-o/normiebench issues 34 and 36 (i5-9500, i3-14100).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Speeds", "batch_speedup", "speeds_of"]


@dataclass(frozen=True)
class Anchor:
    """One measured model: its parameters in billions, its size in GB, and tokens per second."""

    parameters: float
    gigabytes: float
    prefill: float
    decode: float


@dataclass(frozen=True)
class Machine:
    """One profile. `load_rate` is in bytes per second, `load_fixed` in seconds.

    `batch` is how much faster 1, 2, 4 and 8 streams together are than one alone.
    """

    anchors: tuple[Anchor, ...]
    load_rate: float
    load_fixed: float
    batch: tuple[float, float, float, float]


@dataclass(frozen=True)
class Speeds:
    """Of one model on one machine: tokens per second of one stream alone, seconds of a load."""

    prefill: float
    decode: float
    load_seconds: float


_STREAMS = (1, 2, 4, 8)

_MACHINES: dict[str, Machine] = {
    # Ryzen AI Max+ 395: Qwen2.5-7B, Qwen3-8B, 14B estimated, gemma-4-31B, llama 70B.
    "strix-halo": Machine(
        (
            Anchor(7.6, 4.7, 1485, 45.6),
            Anchor(8.2, 5.0, 1268, 41.5),
            Anchor(14.8, 9.0, 590, 23.0),
            Anchor(31.0, 18.7, 312, 11.0),
            Anchor(70.6, 42.5, 87, 4.8),
        ),
        load_rate=3.0e9,
        load_fixed=1.5,
        batch=(1.0, 1.83, 3.1, 4.05),
    ),
    # Ryzen AI 9 HX 370 (890M): Qwen3-8B measured, the others estimated from it.
    "amd-igpu": Machine(
        (
            Anchor(7.6, 4.7, 345, 14.3),
            Anchor(8.2, 5.0, 322, 13.4),
            Anchor(14.8, 9.0, 175, 7.4),
            Anchor(32.8, 19.9, 80, 3.4),
        ),
        load_rate=2.5e9,
        load_fixed=1.5,
        batch=(1.0, 1.75, 2.4, 2.8),
    ),
    # i5-9500 and i3-14100 measured at 8B; estimated for the class of an i5-12500T.
    "cpu": Machine(
        (
            Anchor(7.6, 4.7, 40, 8.5),
            Anchor(8.0, 4.9, 38, 8.0),
            Anchor(14.8, 9.0, 20, 4.5),
            Anchor(32.8, 19.9, 9, 2.0),
        ),
        load_rate=2.0e9,
        load_fixed=1.0,
        batch=(1.0, 1.4, 1.7, 1.8),
    ),
    # Estimated: a card of about 900 GB/s.
    "nvidia": Machine(
        (Anchor(8.0, 4.9, 3800, 125.0), Anchor(32.8, 19.9, 950, 32.0)),
        load_rate=3.0e9,
        load_fixed=1.5,
        batch=(1.0, 1.9, 3.5, 6.0),
    ),
    # Estimated: a card of about 900 GB/s, with a slower prefill.
    "amd": Machine(
        (Anchor(8.0, 4.9, 2400, 95.0), Anchor(32.8, 19.9, 600, 25.0)),
        load_rate=3.0e9,
        load_fixed=2.0,
        batch=(1.0, 1.8, 3.1, 4.5),
    ),
    # Estimated: half of the 890M's prefill, its memory bandwidth.
    "intel": Machine(
        (Anchor(8.0, 4.9, 160, 11.0), Anchor(14.8, 9.0, 85, 6.0)),
        load_rate=2.5e9,
        load_fixed=1.5,
        batch=(1.0, 1.6, 2.1, 2.4),
    ),
}


def speeds_of(profile: str, parameters: float, size: int, offloaded: float = 1.0) -> Speeds:
    """Return the speeds of a model.

    `parameters` is in billions, `size` in bytes, `offloaded` the share of the layers on the GPU;
    the rest runs at the speed of a CPU, and the times of both shares add up.
    """
    alone = _whole(profile, parameters, size)
    if offloaded >= 1.0:
        return alone
    rest = _whole("cpu", parameters, size)
    return Speeds(
        prefill=_harmonic(alone.prefill, rest.prefill, offloaded),
        decode=_harmonic(alone.decode, rest.decode, offloaded),
        load_seconds=alone.load_seconds,
    )


def batch_speedup(profile: str, streams: int) -> float:
    """Return how much faster so many streams of one model are together than one alone."""
    curve = _MACHINES[profile].batch
    if streams >= _STREAMS[-1]:
        return curve[-1]
    upper = bisect_left(_STREAMS, max(streams, 1))
    if _STREAMS[upper] == max(streams, 1):
        return curve[upper]
    low, high = _STREAMS[upper - 1], _STREAMS[upper]
    share = (streams - low) / (high - low)
    return curve[upper - 1] + share * (curve[upper] - curve[upper - 1])


def _whole(profile: str, parameters: float, size: int) -> Speeds:
    machine = _MACHINES[profile]
    by_parameters = [(anchor.parameters, anchor.prefill) for anchor in machine.anchors]
    by_size = [(anchor.gigabytes, anchor.decode) for anchor in machine.anchors]
    return Speeds(
        prefill=_interpolate(by_parameters, parameters),
        decode=_interpolate(by_size, size / 1e9),
        load_seconds=machine.load_fixed + size / machine.load_rate,
    )


def _interpolate(points: Sequence[tuple[float, float]], at: float) -> float:
    """Interpolate on logarithmic axes; outside the points the rate is inversely proportional."""
    xs = [x for x, _ in points]
    at = max(at, 1e-3)
    upper = bisect_left(xs, at)
    if upper == 0:
        return points[0][1] * points[0][0] / at
    if upper == len(points):
        return points[-1][1] * points[-1][0] / at
    (x0, y0), (x1, y1) = points[upper - 1], points[upper]
    share = math.log(at / x0) / math.log(x1 / x0)
    return math.exp(math.log(y0) + share * math.log(y1 / y0))


def _harmonic(fast: float, slow: float, share: float) -> float:
    return 1.0 / (share / fast + (1.0 - share) / slow)
