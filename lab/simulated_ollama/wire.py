"""The forms in which Go's programs write JSON, times and durations."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from typing import Any

__all__ = ["go_json", "nanoseconds", "quoted", "rfc3339", "utc_now"]

_NANOSECOND = 1_000_000_000
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def go_json(data: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Encode as encoding/json does: compact, UTF-8, with the characters of HTML escaped."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return text.translate(_ESCAPES).encode()


def quoted(text: str) -> str:
    """Return the text as Go's %q shows it."""
    return json.dumps(text, ensure_ascii=False)


def nanoseconds(seconds: float) -> int:
    """Return a duration as Go encodes it."""
    return int(seconds * _NANOSECOND)


def rfc3339(epoch_ns: int) -> str:
    """Return a time in UTC with as many digits of nanoseconds as it has."""
    seconds, rest = divmod(epoch_ns, _NANOSECOND)
    stamp = datetime.fromtimestamp(seconds, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{stamp}{fraction}Z"


def utc_now() -> str:
    """Return the present time as Ollama stamps its answers."""
    return rfc3339(time.time_ns())
