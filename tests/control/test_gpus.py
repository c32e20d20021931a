"""GPUs are found in trees of /sys and /dev as machines have them: `gpus/*.yaml`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from jarvis_ops.facts.gpu import Gpu, Gpus, GpuStates
from jarvis_ops.hardware import doubts
from litellm_plugins.schema import Node

TREES = {path.stem: path for path in sorted((Path(__file__).parent / "gpus").glob("*.yaml"))}


def tree(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(TREES[name].read_text())
    return content


def expected(name: str) -> Gpus:
    gpus = tree(name)["gpus"]
    return Gpus(tuple(Gpu(**card) for card in gpus["cards"]), gpus["has_kfd"])


@pytest.mark.skipif(sys.platform != "linux", reason="hosts are Linux")
@pytest.mark.parametrize("name", TREES)
def test_gpus_are_read_from_the_kernels_files(name: str, tmp_path: Path) -> None:
    recorded = tree(name)
    root = tmp_path / "root"
    for path, text in recorded["files"].items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    for path, target in recorded.get("links", {}).items():
        (root / path).symlink_to(target)
    tool = tmp_path / "tools" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho '{recorded.get('nvidia_smi', '')}'\n")
    tool.chmod(0o755)
    result = subprocess.run(
        ["sh", "-c", GpuStates().command(str(root))],
        env={**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert GpuStates().process(result.stdout.splitlines()) == expected(name)


def node(gpu: str, vram_gib: float = 1) -> Node:
    hardware = {"gpu": gpu, "vram_gib": vram_gib} if gpu != "none" else {}
    return Node.model_validate({"address": "10.0.0.1", "hardware": hardware})


@pytest.mark.parametrize(
    ("declared", "vram_gib", "there"),
    [
        ("nvidia", 24, "nvidia"),
        ("strix-halo", 96, "strix_halo"),
        ("amd-igpu", 16, "amd_890m"),
        ("amd", 24, "amd_card"),
        ("intel", 8, "intel"),
        ("none", 0, "none"),
        ("none", 0, "nvidia"),
    ],
)
def test_nothing_is_said_where_the_gpu_is_as_declared(
    declared: str, vram_gib: float, there: str
) -> None:
    assert list(doubts(node(declared, vram_gib), expected(there))) == []


@pytest.mark.parametrize(
    ("declared", "vram_gib", "there", "said"),
    [
        ("strix-halo", 96, "none", "hardware.gpu is 'strix-halo', but the GPU of Strix Halo"),
        ("strix-halo", 96, "amd_890m", "there is: amd 0x150e"),
        ("amd-igpu", 16, "strix_halo", "an integrated AMD GPU is not found"),
        ("amd", 24, "amd_890m", "an AMD card with memory of its own is not found"),
        ("nvidia", 24, "intel", "Ollama will compute on the CPU"),
        ("nvidia", 24, "nvidia_without_driver", "install NVIDIA's driver"),
        ("nvidia", 24, "nvidia_smi_fails", "nvidia-smi does not show it"),
        ("nvidia", 48, "nvidia", "hardware.vram_gib is 48, but the GPU can use 24 GiB"),
        (
            "strix-halo",
            120,
            "strix_halo",
            "can use 96 GiB; the kernel lends it more with ttm.pages_limit=31457280",
        ),
    ],
)
def test_a_gpu_that_is_not_as_declared_is_doubted(
    declared: str, vram_gib: float, there: str, said: str
) -> None:
    (doubt,) = doubts(node(declared, vram_gib), expected(there))
    assert said in doubt


def test_amd_gpu_without_its_compute_interface_is_doubted() -> None:
    found = Gpus(expected("strix_halo").cards, has_kfd=False)
    (doubt,) = doubts(node("strix-halo", 96), found)
    assert "/dev/kfd is missing" in doubt


def test_amd_gpu_without_driver_is_doubted() -> None:
    found = Gpus((Gpu("0000:c1:00.0", "amd", "0x1586"),), has_kfd=False)
    (doubt,) = doubts(node("strix-halo", 96), found)
    assert "the kernel does not drive it" in doubt
