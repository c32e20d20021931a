"""What the simulated internet hands out: the simulated Ollama and models, or real ones."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from lab.model_store import build_store, known_models
from lab.release import CHECKSUMS, build_release
from lab.simulated_ollama.names import parse_name
from lab.system import LabError, locked, remove_tree, run

if TYPE_CHECKING:
    from litellm_plugins.schema import Fleet

__all__ = ["ARCHIVES_VARIABLE", "STORE_VARIABLE", "Supply", "declared_models", "find_supply"]

ARCHIVES_VARIABLE = "JARVIS_LAB_OLLAMA_ARCHIVE"
"""Names a real `ollama-linux-<architecture>.tar.zst`, or several with `:` between them; the first
one is what the fleet runs, the others are there for upgrades."""

STORE_VARIABLE = "JARVIS_LAB_MODEL_STORE"
"""Names a real directory of models, as OLLAMA_MODELS does."""

_ASSET = re.compile(r"ollama-linux-(amd64|arm64)\.tar\.zst")
_VERSION = re.compile(r"(?:client version is|ollama version is) (\S+)")
_ROCM = "ollama-linux-amd64-rocm.tar.zst"


class Supply(BaseModel):
    """Releases and models, each either all real or all simulated.

    `releases` holds a directory `v<version>` per release, `store` is laid out as OLLAMA_MODELS.
    `sha256` gives the archives' checksums by version and name; the first version is the one that
    the fleet runs. `registries` are the hosts that the models come from.
    """

    model_config = ConfigDict(frozen=True)

    is_real: bool
    releases: Path
    store: Path
    sha256: dict[str, dict[str, str]]
    registries: tuple[str, ...]

    @property
    def version(self) -> str:
        """The version that the fleet runs."""
        return next(iter(self.sha256))


def find_supply(fleet: Fleet, directory: Path, cache: Path) -> Supply:
    """Return what the environment names, else simulated releases and models made below `directory`.

    Raises:
        LabError: where only one of the two variables is set, or what they name cannot be used.

    """
    archives, store = os.environ.get(ARCHIVES_VARIABLE), os.environ.get(STORE_VARIABLE)
    if bool(archives) != bool(store):
        raise LabError(
            f"set both {ARCHIVES_VARIABLE} and {STORE_VARIABLE}, or none: the real Ollama cannot "
            "load simulated models, nor the simulated one real ones"
        )
    if archives and store:
        return _real(fleet, archives.split(os.pathsep), Path(store).expanduser(), directory, cache)
    return _simulated(fleet, directory)


def _simulated(fleet: Fleet, directory: Path) -> Supply:
    releases, store = directory / "releases", directory / "models"
    declared = fleet.ollama.version.removesuffix("-simulated")
    versions = [f"{version}-simulated" for version in (declared, _next(declared))]
    build_store(store, sorted({*known_models(), *declared_models(fleet)}))
    return Supply(
        is_real=False,
        releases=releases,
        store=store,
        sha256={version: build_release(version, releases / f"v{version}") for version in versions},
        registries=_registries(store),
    )


def _next(version: str) -> str:
    """Return the patch release after this one."""
    major, minor, patch = version.partition("-")[0].split(".")
    return f"{major}.{minor}.{int(patch) + 1}"


def _real(fleet: Fleet, archives: list[str], store: Path, directory: Path, cache: Path) -> Supply:
    missing = [model for model in declared_models(fleet) if not _manifest(store, model).is_file()]
    if missing:
        raise LabError(
            f"{STORE_VARIABLE}: {store} lacks models that the inventory declares: {', '.join(missing)}"
        )
    releases = directory / "releases"
    releases.mkdir(parents=True)
    sha256 = {}
    for archive in archives:
        release = _release_of(Path(archive).expanduser().resolve(), cache)
        (releases / release.name).symlink_to(release)
        sha256[release.name.removeprefix("v")] = _checksums(release)
    return Supply(
        is_real=True,
        releases=releases,
        store=store.resolve(),
        sha256=sha256,
        registries=_registries(store),
    )


def declared_models(fleet: Fleet) -> list[str]:
    """Return every model that some node is to have."""
    return sorted({model for node in fleet.nodes for model in fleet.models_of(node)})


def _manifest(store: Path, model: str) -> Path:
    return parse_name(model).path_in(store / "manifests")


def _release_of(archive: Path, cache: Path) -> Path:
    """Return a directory like a release of this archive; reading it takes a while, so it is kept."""
    if not _ASSET.fullmatch(archive.name) or not archive.is_file():
        raise LabError(
            f"{ARCHIVES_VARIABLE}: {archive} must be a file with the name that it has in the release, "
            "ollama-linux-amd64.tar.zst or ollama-linux-arm64.tar.zst"
        )
    status = archive.stat()
    identity = f"{archive} {status.st_size} {status.st_mtime_ns}"
    kept = cache / hashlib.sha256(identity.encode()).hexdigest()[:16]
    with locked(cache / "lock"):
        if not kept.exists():
            print(f"Reading {archive}", flush=True)
            partial = kept.with_suffix(".partial")
            remove_tree(partial)
            _take_in(archive, partial)
            partial.rename(kept)
    return next(kept.glob("v*"))


def _take_in(archive: Path, directory: Path) -> None:
    release = directory / f"v{_version(archive)}"
    release.mkdir(parents=True)
    (release / archive.name).symlink_to(archive)
    if "amd64" in archive.name:
        _make_rocm(release / _ROCM)
    assets = sorted(path for path in release.iterdir())
    lines = [f"{_digest(asset)}  ./{asset.name}\n" for asset in assets]
    (release / CHECKSUMS).write_text("".join(lines))


def _version(archive: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="jarvis-lab-") as directory:
        run(
            *("tar", "--extract", f"--file={archive}", "--zstd", f"--directory={directory}"),
            *("--wildcards", "--occurrence=1", "*bin/ollama"),
        )
        # No server is at this address, so it is the program's own version that is printed.
        environment = {"OLLAMA_HOST": "127.0.0.1:1", "HOME": directory}
        said = run(f"{directory}/bin/ollama", "--version", environment=environment)
    found = _VERSION.search(said)
    if found is None:
        raise LabError(f"{archive}: its bin/ollama does not tell its version, but {said.strip()!r}")
    return found[1]


def _make_rocm(archive: Path) -> None:
    """Make the add-on for AMD GPUs of nothing: no host of the lab has a GPU that could use it."""
    with tempfile.TemporaryDirectory(prefix="jarvis-lab-") as directory:
        library = Path(directory, "lib/ollama/rocm_v7_2")
        library.mkdir(parents=True)
        (library / "MADE-BY-THE-LAB").write_text("Simulated: the real add-on has libraries here.\n")
        run(
            *("tar", "--create", f"--file={archive}", "--zstd", f"--directory={directory}"),
            *("--owner=0", "--group=0", "lib"),
        )


def _digest(path: Path) -> str:
    return run("sha256sum", str(path)).split()[0]


def _checksums(release: Path) -> dict[str, str]:
    lines = (release / CHECKSUMS).read_text().splitlines()
    return {name.removeprefix("./"): digest for digest, name in (line.split() for line in lines)}


def _registries(store: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in (store / "manifests").iterdir() if path.is_dir()))
