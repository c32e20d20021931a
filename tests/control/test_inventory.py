"""A wrong inventory ends pyinfra with one clear message, status 1 and no connection."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
PYINFRA = Path(sys.executable).with_name("pyinfra")

NEVER_RUN = "raise SystemExit('the deploy was loaded')\n"


def pyinfra(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "deploy.py").write_text(NEVER_RUN)
    return subprocess.run(
        [PYINFRA, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def inventory(folder: Path, old: str = "", new: str = "") -> str:
    text = (ROOT / "inventory.py").read_text()
    assert old in text
    path = folder / "inventory.py"
    path.write_text(text.replace(old, new, 1))
    return str(path)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            '"address": "192.168.1.10"',
            '"adress": "192.168.1.10"',
            "nodes.ai-max.adress: unknown key; did you mean 'address'?",
        ),
        (
            '"address": "192.168.1.11"',
            '"address": "192.168.1.10"',
            "nodes.ai-mini-x1.address: 192.168.1.10 is the address of node 'ai-max' already",
        ),
        (
            '"roles": ["gateway"]',
            '"roles": ["storage"]',
            "nodes: no node has the role 'gateway'; give it to one of them",
        ),
        (
            '"nodes": ["ai-max", "ai-mini-x1"]',
            '"nodes": ["ai-mex", "ai-mini-x1"]',
            "groups.gpu.nodes: unknown node 'ai-mex'; did you mean 'ai-max'?",
        ),
    ],
)
def test_a_mistake_names_its_key_and_nothing_is_connected_to(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    result = pyinfra(tmp_path, inventory(tmp_path, old, new), "deploy.py", "-y")
    assert result.returncode == 1
    assert sentence in result.stderr
    assert "nothing was changed" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Connecting" not in result.stderr


def test_a_limit_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    result = pyinfra(tmp_path, inventory(tmp_path), "deploy.py", "-y", "--limit", "ai-mxa")
    assert result.returncode == 1
    assert "--limit ai-mxa: no host or group has this name; did you mean 'ai-max'?" in result.stderr
    assert "Connecting" not in result.stderr


@pytest.mark.parametrize("limit", ["ai-max", "gpu", "ai-*", "inference", "all"])
def test_a_limit_that_matches_is_taken(tmp_path: Path, limit: str) -> None:
    result = pyinfra(tmp_path, inventory(tmp_path), "debug-inventory", "--limit", limit)
    assert result.returncode == 0, result.stderr


def test_hosts_that_cannot_be_reached_are_named_with_the_reason(tmp_path: Path) -> None:
    result = pyinfra(
        tmp_path,
        inventory(tmp_path),
        "deploy.py",
        "-y",
        *("--data", "ssh_hostname=127.0.0.1", "--data", "ssh_port=1"),
    )
    assert result.returncode == 1
    summary = result.stderr.partition("--> 5 of 5 hosts failed:")[2]
    for name in ("ai-max", "ai-mini-x1", "dell-micro", "jarvis-brain", "synologynas"):
        assert f"{name}: Could not connect" in summary


def test_an_overlay_is_merged_and_announced(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        dedent("""
            nodes:
              dell-micro: null
              extra: {address: 192.168.1.40}
            groups:
              everywhere: {nodes: [ai-max, ai-mini-x1, extra]}
            models:
              nomic-embed-text: null
            routing: {refresh_seconds: null}
        """)
    )
    result = pyinfra(
        tmp_path,
        inventory(tmp_path),
        *("debug-inventory", "--json"),
        JARVIS_FLEET_OVERLAY=str(overlay),
    )
    assert result.returncode == 0, result.stderr
    assert f"Fleet overlay: {overlay}" in result.stderr
    assert '"name": "extra"' in result.stdout
    assert '"name": "dell-micro"' not in result.stdout


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot read"),
        ("a: [", "cannot read"),
        ("- one", "must hold a mapping"),
        ("nodez: {}", "nodez: unknown key; did you mean 'nodes'?"),
    ],
)
def test_a_wrong_overlay_is_refused(tmp_path: Path, text: str | None, sentence: str) -> None:
    overlay = tmp_path / "overlay.yaml"
    if text is not None:
        overlay.write_text(text)
    result = pyinfra(
        tmp_path, inventory(tmp_path), "debug-inventory", JARVIS_FLEET_OVERLAY=str(overlay)
    )
    assert result.returncode == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
