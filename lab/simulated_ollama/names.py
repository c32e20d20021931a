"""Names of models: ``host/namespace/model:tag`` with defaults, as Ollama parses them.

Rules and limits: Ollama v0.33, types/model/name.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ModelName", "parse_name"]

_HOST, _NAMESPACE, _TAG = "registry.ollama.ai", "library", "latest"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_NAMESPACE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_HOST_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")


@dataclass(frozen=True)
class ModelName:
    """A name with all its parts."""

    host: str
    namespace: str
    model: str
    tag: str

    @property
    def is_valid(self) -> bool:
        """Whether Ollama accepts it."""
        return bool(
            _HOST_PART.fullmatch(self.host)
            and _NAMESPACE_PART.fullmatch(self.namespace)
            and _PART.fullmatch(self.model)
            and _PART.fullmatch(self.tag)
        )

    @property
    def shortest(self) -> str:
        """As lists show it: default host and namespace dropped, the tag always there."""
        short = f"{self.model}:{self.tag}"
        if self.host != _HOST:
            return f"{self.host}/{self.namespace}/{short}"
        return short if self.namespace == _NAMESPACE else f"{self.namespace}/{short}"

    @property
    def full(self) -> str:
        """With every part."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    def same_as(self, other: ModelName) -> bool:
        """Whether both are one name; case does not count."""
        return self.full.lower() == other.full.lower()

    def path_in(self, manifests: Path) -> Path:
        """Return where the manifest lies."""
        return manifests / self.host / self.namespace / self.model / self.tag


def parse_name(text: str) -> ModelName:
    """Read a name; what it leaves out takes the default. The result may be invalid."""
    rest = text.partition("://")[2] or text
    head, slash, last = rest.rpartition("/")
    model, colon, tag = last.rpartition(":")
    if not colon:
        model, tag = last, _TAG
    namespace, host = _NAMESPACE, _HOST
    if slash:
        above, _, namespace = head.rpartition("/")
        host = above or _HOST
    return ModelName(host, namespace, model, tag)
