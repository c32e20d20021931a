"""The content of a simulated model layer: a header that says what it stands for, then padding."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["HEADER_LIMIT", "ModelHeader", "padding", "read_header", "write_header"]

HEADER_LIMIT = 64 * 1024
"""Bytes within which the header's line ends."""

_MARK = "simulated-model"
_BLOCK = 1 << 16


@dataclass(frozen=True)
class ModelHeader:
    """What a model is, as far as the simulation needs it.

    `nominal_size` is the size in bytes of the real model layer; `parameters` is a count, not
    billions; `cache_bytes` is what one token of context takes in an f16 cache.
    """

    name: str
    family: str
    parameters: int
    parameter_size: str
    quantization: str
    nominal_size: int
    context_length: int
    embedding_length: int
    cache_bytes: int
    capabilities: tuple[str, ...]


def write_header(header: ModelHeader) -> bytes:
    """Return the header's line."""
    return json.dumps({"format": _MARK, **asdict(header)}, sort_keys=True).encode() + b"\n"


def read_header(path: Path) -> ModelHeader | None:
    """Return the header of a layer, or None where the file is no simulated one."""
    with path.open("rb") as file:
        line = file.read(HEADER_LIMIT).partition(b"\n")[0]
    try:
        data: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    if not isinstance(data, dict) or data.get("format") != _MARK:
        return None
    known = {field.name: data[field.name] for field in fields(ModelHeader)}
    return ModelHeader(**{**known, "capabilities": tuple(known["capabilities"])})


def padding(seed: str, size: int) -> Iterator[bytes]:
    """Yield so many bytes that depend on the seed only and do not compress to nothing."""
    counter = 0
    left = size
    while left > 0:
        block = hashlib.shake_128(f"{seed}/{counter}".encode()).digest(min(_BLOCK, left))
        yield block
        left -= len(block)
        counter += 1
