"""Five empty hosts become the declared fleet, and stay as they are from then on."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from control import Control, Run, Snapshot, changes, running_lab, snapshot

from lab.laboratory import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """The control machine of the reference fleet, whose hosts are empty."""
    with running_lab("test-five", REPOSITORY / "inventory.py", tmp_path_factory) as control:
        yield control


def disks(control: Control) -> dict[str, Snapshot]:
    return {name: snapshot(host) for name, host in control.lab.hosts.items()}


@pytest.fixture(scope="module")
def empty(control: Control) -> dict[str, Snapshot]:
    """The disks before the first run."""
    return disks(control)


@pytest.fixture(scope="module")
def dry_run(control: Control, empty: dict[str, Snapshot]) -> Run:
    return control.run("--dry", "--json")


@pytest.fixture(scope="module")
def after_dry_run(control: Control, dry_run: Run) -> dict[str, Snapshot]:
    return disks(control)


@pytest.fixture(scope="module")
def first_run(control: Control, after_dry_run: dict[str, Snapshot]) -> Run:
    return control.run("-y", "--json")


@pytest.fixture(scope="module")
def second_run(control: Control, first_run: Run) -> Run:
    return control.run("-y", "--json")


def test_a_dry_run_lists_what_would_change_on_every_host(control: Control, dry_run: Run) -> None:
    assert dry_run.status == 0, dry_run.stderr
    assert {host for hosts in dry_run.planned.values() for host in hosts} == set(control.lab.hosts)


def test_a_dry_run_changes_nothing(
    empty: dict[str, Snapshot], after_dry_run: dict[str, Snapshot]
) -> None:
    changed = {host: changes(disk, after_dry_run[host]) for host, disk in empty.items()}
    assert changed == {host: set() for host in empty}


def test_the_first_run_succeeds(first_run: Run) -> None:
    assert first_run.status == 0, first_run.stderr
    assert first_run.report["results"]["failed_hosts"] == []


def test_the_second_run_changes_nothing(second_run: Run) -> None:
    assert second_run.status == 0, second_run.stderr
    assert second_run.changed == []


def test_a_plan_for_the_converged_fleet_is_empty(control: Control, second_run: Run) -> None:
    plan = control.run("--json")
    assert plan.status == 0, plan.stderr
    assert plan.planned == {}


def test_the_fleet_passes_its_own_checks(control: Control, second_run: Run) -> None:
    suite = subprocess.run(
        control.lab.command(
            sys.executable, "-m", "pytest", "tests/hosts", "-q", "-p", "no:cacheprovider"
        ),
        cwd=REPOSITORY,
        env=control.environment,
        capture_output=True,
        text=True,
    )
    assert suite.returncode == 0, suite.stdout + suite.stderr
    assert "skipped" not in suite.stdout.splitlines()[-1]


def test_the_checks_changed_nothing(control: Control, second_run: Run) -> None:
    assert control.run("-y", "--json").changed == []
