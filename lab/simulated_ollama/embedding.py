"""Embeddings without a model: texts that share words lie near each other."""

from __future__ import annotations

import hashlib
import math

__all__ = ["embedding", "normalised", "shortened"]

_MIDDLE = 127.5
_DIGITS = 8
"""Of a 32-bit float."""


def embedding(text: str, length: int) -> list[float]:
    """Return a vector of that length, the same for the same text; its norm is not one."""
    vector = [0.0] * length
    for word in ("", *text.lower().split()):
        numbers = hashlib.shake_128(word.encode()).digest(length)
        vector = [
            value + (number - _MIDDLE) / _MIDDLE
            for value, number in zip(vector, numbers, strict=True)
        ]
    return [_rounded(value) for value in vector]


def normalised(vector: list[float]) -> list[float]:
    """Scale a vector to length one; a zero vector stays."""
    norm = math.sqrt(sum(value * value for value in vector))
    return [_rounded(value / norm) for value in vector] if norm else vector


def shortened(vector: list[float], dimensions: int) -> list[float]:
    """Return the first numbers of a vector, scaled to length one again."""
    return normalised(vector[:dimensions]) if 0 < dimensions < len(vector) else vector


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
