"""Tests that boot hosts. They need Linux and root; elsewhere they are skipped with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab import machine
from lab.laboratory import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOOTING = {"control", "lab"}
"""Fixtures that boot hosts."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot be done here, and say why."""
    reason = machine.why_not()
    if reason and _BOOTING & set(getattr(item, "fixturenames", ())):
        pytest.skip(reason)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab of three empty hosts, for tests of the lab itself."""
    lab = Lab("test-lab")
    lab.up(Path(__file__).with_name("small_fleet.py"))
    yield lab
    lab.down()
