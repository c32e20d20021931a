"""Tests that boot hosts. They need Linux and root; elsewhere they are skipped, or fail in CI."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from control import SMALL_FLEET, Control, running_lab

from lab import machine
from lab.laboratory import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOOTING = {"control", "lab"}
"""Fixtures that boot hosts."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot be done here, and say why; where everything has to run, fail instead."""
    reason = machine.why_not()
    if not reason or not _BOOTING & set(getattr(item, "fixturenames", ())):
        return
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab of three empty hosts, for tests of the lab itself."""
    lab = Lab("test-lab")
    lab.up(SMALL_FLEET)
    yield lab
    lab.down()


@pytest.fixture(scope="session")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """The control machine of a small fleet, as fast as real hardware, for all scenarios.

    Booting is quick and building a gateway is not, so they share it: each brings the hosts, by
    deploying them, to the state that it starts from.
    """
    with running_lab("test", SMALL_FLEET, tmp_path_factory, time_scale=1) as control:
        yield control
