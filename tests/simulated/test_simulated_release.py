"""The release archives: their layout, their bytes, and the program in them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from simulated_server import Server, running_server

from lab.release import ASSETS, CHECKSUMS, build_release

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "1.2.3-simulated"
AMD64, ARM64, ROCM = ASSETS


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("release")
    build_release(VERSION, directory)
    return directory


@pytest.fixture(scope="module")
def installed(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base archive, unpacked, in a place of its own without any of this project beside it."""
    directory = tmp_path_factory.mktemp("installed")
    unpack(release / AMD64, directory)
    return directory


def unpack(archive: Path, directory: Path) -> None:
    subprocess.run(["tar", "--zstd", "-xf", archive, "-C", directory], check=True)


def members(archive: Path, tmp_path: Path) -> dict[str, tarfile.TarInfo]:
    plain = tmp_path / "plain.tar"
    subprocess.run(["zstd", "-dqf", archive, "-o", plain], check=True)
    with tarfile.open(plain) as opened:
        return {item.name: item for item in opened.getmembers()}


def environment(tmp_path: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OLLAMA_HOST": "127.0.0.1:1"}


def run(program: Path, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", program, *arguments],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )


def test_checksums_have_the_form_of_the_real_ones(release: Path) -> None:
    lines = (release / CHECKSUMS).read_text().splitlines()
    found = dict(re.fullmatch(r"([0-9a-f]{64})  \./(.*)", line).group(2, 1) for line in lines)
    assert set(found) == set(ASSETS)
    for asset, digest in found.items():
        assert hashlib.sha256((release / asset).read_bytes()).hexdigest() == digest
    checked = subprocess.run(["sha256sum", "--check", CHECKSUMS], cwd=release, capture_output=True)
    assert checked.returncode == 0


def test_same_version_gives_the_same_bytes_and_another_one_others(
    release: Path, tmp_path: Path
) -> None:
    again = build_release(VERSION, tmp_path / "again")
    other = build_release("1.2.4-simulated", tmp_path / "other")
    for asset in ASSETS:
        assert hashlib.sha256((release / asset).read_bytes()).hexdigest() == again[asset]
    assert other[AMD64] != again[AMD64]


def test_layout(release: Path, tmp_path: Path) -> None:
    amd64 = members(release / AMD64, tmp_path)
    assert {name.split("/")[0] for name in amd64} == {"bin", "lib"}
    assert amd64["bin/ollama"].mode == 0o755
    assert amd64["lib/ollama/llama-server"].mode == 0o755
    assert amd64["lib/ollama/libllama.so"].linkname == "libllama.so.0"
    assert "lib/ollama/vulkan/libggml-vulkan.so" in amd64
    assert {item.uid for item in amd64.values()} == {0}
    arm64 = members(release / ARM64, tmp_path)
    assert "bin/ollama" in arm64
    assert not any("vulkan" in name for name in arm64)
    rocm = members(release / ROCM, tmp_path)
    assert {"/".join(name.split("/")[:3]) for name in rocm} == {"lib/ollama/rocm_v7_2"}


def test_every_placeholder_says_that_it_is_one(installed: Path) -> None:
    files = [path for path in (installed / "lib").rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert path.read_text().startswith("Simulated:")


def test_program_carries_pure_python_only(installed: Path) -> None:
    with zipfile.ZipFile(installed / "bin" / "ollama") as program:
        names = program.namelist()
    assert {Path(name).suffix for name in names} == {".py", ".pyc", ""}
    assert {"starlette", "uvicorn", "lab"} <= {name.split("/")[0] for name in names}
    assert not any(name.startswith(("pydantic", "litellm")) for name in names)


def test_program_tells_its_version_without_a_server(installed: Path, tmp_path: Path) -> None:
    told = run(installed / "bin" / "ollama", tmp_path, "--version")
    assert told.stdout.splitlines() == [
        "Warning: could not connect to a running Ollama instance",
        f"Warning: client version is {VERSION}",
    ]
    assert told.returncode == 0


def test_program_starts_by_itself(installed: Path, tmp_path: Path) -> None:
    program = installed / "bin" / "ollama"
    assert program.read_bytes().startswith(b"#!/usr/bin/python3 -I\n")
    assert os.access(program, os.X_OK)


@pytest.fixture(params=["directly", "by a link"])
def program(installed: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    if request.param == "directly":
        return installed / "bin" / "ollama"
    link = tmp_path / "bin" / "ollama"
    link.parent.mkdir()
    link.symlink_to(installed / "bin" / "ollama")
    return link


@pytest.fixture
def server(program: Path, tmp_path: Path) -> Iterator[Server]:
    command = [sys.executable, "-I", str(program)]
    with running_server(tmp_path / "node", command=command, profile="strix-halo") as running:
        yield running


def test_program_serves_and_lacks_the_add_on(server: Server) -> None:
    assert server.version == VERSION
    assert server.http.get("/api/version").json() == {"version": VERSION}
    assert "simulated" in server.chat("llama3").json()["message"]["content"]
    assert server.running()["llama3:latest"]["size_vram"] == 0


def test_add_on_of_the_same_version_brings_the_gpu(
    release: Path, installed: Path, tmp_path: Path
) -> None:
    both = tmp_path / "both"
    shutil.copytree(installed, both, symlinks=True)
    unpack(release / ROCM, both)
    command = [sys.executable, "-I", str(both / "bin" / "ollama")]
    with running_server(tmp_path / "node", command=command, profile="strix-halo") as server:
        server.chat("llama3")
        assert server.running()["llama3:latest"]["size_vram"] > 0


def test_version_must_say_that_it_is_simulated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"1\.2\.3"):
        build_release("1.2.3", tmp_path)
    assert list(tmp_path.iterdir()) == []
