"""Embeddings without a model: texts that share words lie near each other."""

from __future__ import annotations

import hashlib
import math

__all__ = ["embedding", "normalised"]

_FEATURES = 8


def embedding(text: str, length: int) -> list[float]:
    """Return a vector of that length, the same for the same text, with a norm of about one."""
    vector = [0.0] * length
    for word in ("", *text.lower().split()):
        digest = hashlib.sha256(word.encode()).digest()
        for index in range(_FEATURES):
            number = int.from_bytes(digest[index * 4 : index * 4 + 4], "big")
            vector[(number >> 1) % length] += 1.0 if number & 1 else -1.0
    return normalised(vector)


def normalised(vector: list[float]) -> list[float]:
    """Scale a vector to length one; a zero vector stays."""
    norm = math.sqrt(sum(value * value for value in vector))
    return [value / norm for value in vector] if norm else vector
