"""The fleet file, followed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from litellm_plugins.fleet_file import FleetFile
from litellm_plugins.schema import FleetError

if TYPE_CHECKING:
    from pathlib import Path


def fleet(version: str = "0.34.2") -> dict:
    return {
        "ollama": {"version": version},
        "nodes": {"solo": {"address": "10.0.0.1", "roles": ["gateway", "inference"]}},
    }


def replace_by(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(fleet()))
    return path


def test_a_change_is_taken_up_once(path: Path) -> None:
    file = FleetFile(path)
    assert not file.reload()
    replace_by(path, json.dumps(fleet("0.34.3")))
    assert file.reload()
    assert file.current.ollama.version == "0.34.3"
    assert not file.reload()


def test_the_same_content_anew_is_no_change(path: Path) -> None:
    file = FleetFile(path)
    replace_by(path, json.dumps(fleet()))
    assert not file.reload()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", "fleet: invalid JSON"),
        (json.dumps({**fleet(), "nodez": {}}), "nodez: unknown key; did you mean 'nodes'?"),
        ("", "fleet: invalid JSON"),
    ],
)
def test_a_broken_file_keeps_the_last_good_one_and_says_why_once(
    path: Path, caplog, text: str, line: str
) -> None:
    file = FleetFile(path)
    before = file.current
    replace_by(path, text)
    assert not file.reload()
    assert not file.reload()
    assert file.current is before
    assert [line in record.message for record in caplog.records] == [True]
    replace_by(path, json.dumps(fleet("0.34.3")))
    assert file.reload()


def test_a_missing_file_keeps_the_last_good_one(path: Path) -> None:
    file = FleetFile(path)
    path.unlink()
    assert not file.reload()
    path.write_text(json.dumps(fleet("0.34.3")))
    assert file.reload()


def test_at_the_start_there_must_be_a_good_one(path: Path) -> None:
    path.write_text(json.dumps({"ollama": {"version": "x"}}))
    with pytest.raises(FleetError) as caught:
        FleetFile(path)
    assert len(caught.value.lines) > 1
    path.unlink()
    with pytest.raises(FileNotFoundError):
        FleetFile(path)
