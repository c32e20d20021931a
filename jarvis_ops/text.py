"""Texts that become files on the hosts or run there: templates and shell scripts."""

from __future__ import annotations

import functools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["python", "render", "script"]

_HERE = Path(__file__).parent

_TEMPLATES = Environment(  # noqa: S701 - these become configuration files, not web pages
    loader=FileSystemLoader(_HERE / "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render(template: str, **data: Any) -> str:  # noqa: ANN401
    """Return a template of `jarvis_ops/templates`, filled in; a name it misses is an error."""
    return _TEMPLATES.get_template(template).render(**data)


@functools.cache
def _source(name: str) -> str:
    return (_HERE / "scripts" / name).read_text(encoding="utf-8")


def script(name: str, arguments: Sequence[str] = ()) -> str:
    """Return a script of `jarvis_ops/scripts` as text for `sh`, with its arguments set, if any."""
    return f"set -- {shlex.join(arguments)}\n{_source(name)}" if arguments else _source(name)


def python(name: str, arguments: Sequence[str] = ()) -> str:
    """Return the command that runs a Python script of `jarvis_ops/scripts` with its arguments."""
    return shlex.join(["python3", "-c", _source(name), *arguments])
