"""What facts answer with."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["Value"]


class Value:
    """Base of the frozen dataclasses that facts return; lets `pyinfra ... fact` print them."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]
