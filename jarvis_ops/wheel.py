"""The wheel of the plugin package, built in memory from this checkout."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flit_core.common import Module  # type: ignore[import-untyped]
from flit_core.wheel import WheelBuilder  # type: ignore[import-untyped]
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PROJECT", "Wheel", "build"]

PROJECT = Path(__file__).parent.parent

_SUFFIXES = frozenset({".py", ".yaml", ".typed"})
"""Code and package data. What editors and merges leave behind is neither."""

_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
"""The oldest that a zip archive can hold, so that a fresh checkout makes the same wheel."""


@dataclass(frozen=True)
class Wheel:
    """A wheel: file name, bytes, and `package_sha256` of what will run, by path and content.

    The bytes themselves also depend on how the control machine's zlib compresses, and on metadata
    such as the README; neither is a reason to restart a gateway.
    """

    name: str
    content: bytes = field(repr=False)
    package_sha256: str


class _Package(Module):  # type: ignore[misc]
    @override
    def iter_files(self) -> Iterator[str]:
        return (path for path in super().iter_files() if Path(path).suffix in _SUFFIXES)


def build(project: Path = PROJECT) -> Wheel:
    """Build the wheel that a project's `pyproject.toml` describes; nothing is written to disk.

    Raises:
        flit_core.config.ConfigError: `pyproject.toml` does not describe one.

    """
    target = io.BytesIO()
    builder = WheelBuilder.from_ini_path(project / "pyproject.toml", target)
    builder.module = _Package(builder.module.name, project)
    builder.source_time_stamp = _TIMESTAMP
    builder.build()
    content = target.getvalue()
    return Wheel(builder.wheel_filename, content, _package_sha256(content, builder.dist_info))


def _package_sha256(content: bytes, dist_info: str) -> str:
    digest = hashlib.sha256()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            if not name.startswith(f"{dist_info}/"):
                digest.update(f"{hashlib.sha256(archive.read(name)).hexdigest()} {name}\n".encode())
    return digest.hexdigest()
