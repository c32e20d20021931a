"""What web servers answer when the host asks them."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from pyinfra.api import FactBase
from typing_extensions import override

from jarvis_ops.facts.value import Value
from jarvis_ops.text import python, script

__all__ = ["Replies", "Reply"]

_BLOCK_END = b"\r\n\r\n"
_STATUS_LINE = re.compile(rb"^HTTP/[0-9.]+ (?P<status>\d{3})")
_LENGTH = re.compile(rb"^content-length:\s*(\d+)\s*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Reply(Value):
    """The last answer after redirects: `length` is its Content-Length in bytes, if it told.

    Where there was none, `status` is None and `error` is what curl said.
    """

    status: int | None
    length: int | None = None
    body: bytes = b""
    error: str = ""


class Replies(FactBase[tuple[Reply, ...]]):
    """The answers to several requests, each a method (GET or HEAD) and a URL, in their order."""

    default = tuple

    @override
    def command(self, requests: tuple[tuple[str, str], ...]) -> str:
        words = [word for request in requests for word in request]
        return (
            f"if command -v curl >/dev/null; then\n{script('replies.sh', words)}\n"
            f"else {python('replies.py', words)}; fi"
        )

    @override
    def process(self, output: list[str]) -> tuple[Reply, ...]:
        return tuple(_reply(base64.b64decode(line)) for line in output)


def _reply(text: bytes) -> Reply:
    status, headers = None, b""
    # A proxy's answer to CONNECT and each redirect come as header blocks of their own.
    while found := _STATUS_LINE.match(text):
        status = int(found["status"])
        headers, _, text = text.partition(_BLOCK_END)
    if status is None:
        return Reply(None, error=text.decode(errors="replace").strip())
    length = _LENGTH.findall(headers)
    return Reply(status, int(length[-1]) if length else None, text)
