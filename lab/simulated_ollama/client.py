"""The client's side of the command: a few calls to a server, and tables of what it says."""

from __future__ import annotations

import http.client
import json
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["CallError", "Client", "human_bytes", "human_time", "table"]

_PADDING = "    "
_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))
_AGES = (
    (365 * 86400, "year"),
    (30 * 86400, "month"),
    (7 * 86400, "week"),
    (86400, "day"),
    (3600, "hour"),
    (60, "minute"),
    (1, "second"),
)
_NEVER_SECONDS = 100 * 365 * 86400
_UNREACHABLE = "could not connect to ollama server, run 'ollama serve' to start it"
_UNSPECIFIED = frozenset({"0.0.0.0", "::", ""})


class CallError(Exception):
    """A call failed; the message is what the user reads after "Error: "."""


class Client:
    """Calls to one server."""

    def __init__(self, host: str, port: int) -> None:
        """Take the address from OLLAMA_HOST; an unspecified one means this machine."""
        self._host = "127.0.0.1" if host in _UNSPECIFIED else host
        self._port = port

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer's JSON object; empty where the answer has no body.

        Raises:
            CallError: where there is no server, or its answer is an error.

        """
        lines = list(self.stream(method, path, body))
        return lines[-1] if lines else {}

    def stream(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the lines of an answer.

        Raises:
            CallError: where there is no server, or a line is an error.

        """
        connection = http.client.HTTPConnection(self._host, self._port)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            for line in response:
                data: dict[str, Any] = json.loads(line)
                if "error" in data:
                    raise CallError(str(data["error"]))
                yield data
        except (OSError, http.client.HTTPException):
            raise CallError(_UNREACHABLE) from None
        finally:
            connection.close()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows in columns, as the real command prints them."""
    lines = [head, *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(head))]
    return "\n".join(
        "".join(cell.ljust(width) + _PADDING for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def human_bytes(size: int) -> str:
    """Return a size in decimal units: ``4.7 GB``, ``811 KB``."""
    for factor, unit in _UNITS:
        if size < factor:
            continue
        value = size / factor
        is_short = value < 10 and value != int(value)
        return f"{value:.1f} {unit}" if is_short else f"{int(value)} {unit}"
    return f"{size} B"


def human_time(stamp: str) -> str:
    """Return a time relative to now: ``26 minutes ago``, ``4 minutes from now``, ``Never``."""
    when = datetime.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    seconds = when.timestamp() - time.time()
    if abs(seconds) > _NEVER_SECONDS:
        return "Never" if seconds < 0 else "Forever"
    direction = "from now" if seconds > 0 else "ago"
    for length, unit in _AGES:
        count = int(abs(seconds) // length)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''} {direction}"
    return "Less than a second " + direction
