"""Builds release archives with the layout of the real ones, whose program is the simulated Ollama."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
import marshal
import re
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.simulated_ollama.version import VERSION_RESOURCE

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ASSETS", "CHECKSUMS", "build_release"]

CHECKSUMS = "sha256sum.txt"
_AMD64 = "ollama-linux-amd64.tar.zst"
_ARM64 = "ollama-linux-arm64.tar.zst"
_ROCM = "ollama-linux-amd64-rocm.tar.zst"
ASSETS = (_AMD64, _ARM64, _ROCM)

_PACKAGE = "lab/simulated_ollama"
_REQUIREMENTS = ("starlette", "uvicorn")
_EPOCH = 1_700_000_000
"""One time for every file, so that the same source gives the same bytes."""

_ZIP_EPOCH = (2023, 11, 14, 22, 13, 20)
_UNCHECKED_HASH = 0b01
_MARSHAL_WITHOUT_REFERENCES = 2
"""Later formats depend on how often an object happens to be referred to."""

_NAME = re.compile(r"[A-Za-z0-9._-]+")

_MAIN = """\
import sys

if sys.version_info < {least}:
    sys.exit("The simulated Ollama needs Python {shown} or newer; this is " + sys.version.split()[0])

from lab.simulated_ollama.command import main

sys.exit(main())
"""


@dataclass(frozen=True)
class _Library:
    """A shared library with its two links, as the real archive has them."""

    name: str
    version: str


_LIBRARIES = (
    _Library("libggml-base", "0.20.2"),
    _Library("libggml", "0.20.2"),
    _Library("libllama", "0.1.2"),
    _Library("libllama-common", "0.1.2"),
    _Library("libmtmd", "0.1.2"),
)
_PROGRAMS = ("llama-server", "llama-quantize")
_CPU_VARIANTS = {
    _AMD64: ("x64", "haswell", "skylakex"),
    _ARM64: ("armv8.0_1", "armv8.2_1", "armv9.2_1"),
}
_GPU_FILES = {
    "cuda_v12": ("libggml-cuda.so", "libcublas.so.12", "libcudart.so.12"),
    "cuda_v13": ("libggml-cuda.so", "libcublas.so.13", "libcudart.so.13"),
    "vulkan": ("libggml-vulkan.so",),
    "rocm_v7_2": ("libggml-hip.so", "libhipblas.so.3", "librocblas.so.5"),
}
_GPUS = {_AMD64: ("cuda_v12", "cuda_v13", "vulkan"), _ARM64: ("cuda_v12", "cuda_v13")}


def build_release(version: str, directory: Path) -> dict[str, str]:
    """Write the archives and their checksums into a directory; return asset -> sha256.

    `version` becomes the one that the program reports. The same source, environment and version
    give the same bytes.

    Raises:
        ValueError: where the version does not say that it is simulated.
        RuntimeError: where the program zstd is missing.

    """
    if "simulated" not in version:
        raise ValueError(
            f"the version of a simulated release says so, and this does not: {version}"
        )
    if shutil.which("zstd") is None:
        raise RuntimeError("the program zstd is needed to build a release; install it")
    directory.mkdir(parents=True, exist_ok=True)
    program = _program(version)
    for asset in (_AMD64, _ARM64):
        _write_archive(directory / asset, [_Member("bin/ollama", program, 0o755), *_base(asset)])
    _write_archive(directory / _ROCM, list(_gpu("rocm_v7_2")))
    sums = {asset: hashlib.sha256((directory / asset).read_bytes()).hexdigest() for asset in ASSETS}
    lines = [f"{digest}  ./{asset}\n" for asset, digest in sorted(sums.items())]
    (directory / CHECKSUMS).write_text("".join(lines))
    return sums


@dataclass(frozen=True)
class _Member:
    """One entry of an archive: a file, a link if `target` is set, else a directory."""

    name: str
    content: bytes | None = None
    mode: int = 0o644
    target: str = ""


def _base(asset: str) -> Iterator[_Member]:
    for library in _LIBRARIES:
        yield from _links(library)
    for variant in _CPU_VARIANTS[asset]:
        yield _placeholder(f"lib/ollama/libggml-cpu-{variant}.so")
    for program in _PROGRAMS:
        yield _placeholder(f"lib/ollama/{program}", 0o755)
    for gpu in _GPUS[asset]:
        yield from _gpu(gpu)


def _links(library: _Library) -> Iterator[_Member]:
    base = f"lib/ollama/{library.name}.so"
    major = library.version.partition(".")[0]
    file = f"{library.name}.so.{library.version}"
    yield _Member(base, target=f"{library.name}.so.{major}")
    yield _Member(f"{base}.{major}", target=file)
    yield _placeholder(f"lib/ollama/{file}")


def _gpu(name: str) -> Iterator[_Member]:
    yield _Member(f"lib/ollama/{name}", mode=0o755)
    for file in _GPU_FILES[name]:
        yield _placeholder(f"lib/ollama/{name}/{file}")


def _placeholder(name: str, mode: int = 0o644) -> _Member:
    text = f"Simulated: this stands where a real release has {name}. There is no code in it.\n"
    return _Member(name, text.encode(), mode)


def _write_archive(path: Path, members: list[_Member]) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member in members:
            archive.addfile(_entry(member), io.BytesIO(member.content or b""))
    packed = subprocess.run(
        ["zstd", "--quiet", "-3", "--stdout", "-"],
        input=buffer.getvalue(),
        capture_output=True,
        check=True,
    )
    path.write_bytes(packed.stdout)


def _entry(member: _Member) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(member.name)
    entry.mtime = _EPOCH
    entry.mode = member.mode
    entry.uname = entry.gname = "root"
    if member.content is not None:
        entry.size = len(member.content)
    elif member.target:
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, member.target, 0o777
    else:
        entry.type = tarfile.DIRTYPE
    return entry


def _program(version: str) -> bytes:
    """Return a zip archive that Python runs: our package and what it needs, compiled where possible."""
    distributions = _closure(_REQUIREMENTS)
    files = {**_own_files(), **_vendored_files(distributions)}
    files[f"{_PACKAGE}/{VERSION_RESOURCE}"] = f"{version}\n".encode()
    files["__main__.py"] = _main(distributions).encode()
    buffer = io.BytesIO(b"#!/usr/bin/python3 -I\n")
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _ZIP_EPOCH), content)
            if name.endswith(".py"):
                compiled = zipfile.ZipInfo(f"{name}c", _ZIP_EPOCH)
                archive.writestr(compiled, _compiled(name, content))
    return buffer.getvalue()


def _compiled(name: str, source: bytes) -> bytes:
    """Return byte code for this version of Python; another version passes over it to the source."""
    code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    return b"".join(
        (
            importlib.util.MAGIC_NUMBER,
            _UNCHECKED_HASH.to_bytes(4, "little"),
            importlib.util.source_hash(source),
            marshal.dumps(code, _MARSHAL_WITHOUT_REFERENCES),
        )
    )


def _main(distributions: list[importlib.metadata.Distribution]) -> str:
    least = max(_least_python(item) for item in distributions)
    return _MAIN.format(least=least, shown=".".join(map(str, least)))


def _least_python(distribution: importlib.metadata.Distribution) -> tuple[int, ...]:
    wanted = distribution.metadata["Requires-Python"] or ""
    found = re.search(r">=\s*(\d+)\.(\d+)", wanted)
    return (int(found[1]), int(found[2])) if found else (3, 0)


def _own_files() -> dict[str, bytes]:
    root = Path(__file__).resolve().parent.parent
    package = root / _PACKAGE
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in package.rglob("*.py")}
    return {"lab/__init__.py": b"", **files}


def _vendored_files(distributions: list[importlib.metadata.Distribution]) -> dict[str, bytes]:
    return {
        path.as_posix(): Path(str(path.locate())).read_bytes()
        for distribution in distributions
        for path in distribution.files or []
        if path.suffix == ".py" and ".." not in path.parts
    }


def _closure(names: tuple[str, ...]) -> list[importlib.metadata.Distribution]:
    """Return the distributions and all that they require here, in order of name.

    What is required but not installed is left out: a requirement of another Python or platform.
    """
    found: dict[str, importlib.metadata.Distribution] = {}
    open_names = list(names)
    while open_names:
        name = open_names.pop()
        if name in found:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if name in names:
                raise
            continue
        found[name] = distribution
        open_names += _required(distribution)
    return [found[name] for name in sorted(found)]


def _required(distribution: importlib.metadata.Distribution) -> Iterator[str]:
    for requirement in distribution.requires or []:
        name = _NAME.match(requirement)
        if name and "extra ==" not in requirement:
            yield name[0].lower().replace("_", "-")
