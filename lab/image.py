"""Base images: Debian root file systems that hosts put their own layer over."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from lab.system import locked, remove_tree, run

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Suite", "build"]

_PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "openssh-server",
    "procps",
    "python3",
    "sudo",
    "systemd",
    "systemd-sysv",
    "udev",
    "wget",
)
"""About what Debian's installer leaves on a server; the deploys have to install the rest."""

_SETUP = Path(__file__).with_name("image.sh")
_MACHINE_CERTIFICATES = Path("/usr/local/share/ca-certificates")


class Suite(str, Enum):
    """The releases of Debian that hosts run, by code name."""

    BOOKWORM = "bookworm"
    TRIXIE = "trixie"

    @property
    def product(self) -> str:
        """The name that people know."""
        return {"bookworm": "Debian 12", "trixie": "Debian 13"}[self.value]


def build(suites: Iterable[Suite], images: Path, authority: Path) -> dict[Suite, Path]:
    """Return the root directory of each suite; make those that are not there yet.

    An image is named for what it is made of, so that a change makes a new one. It trusts the
    machine's own certificate authorities, for those behind a company's proxy, and the lab's.
    """
    certificates = [*sorted(_MACHINE_CERTIFICATES.rglob("*.crt")), authority]
    roots = {suite: images / f"{suite.value}-{_key(certificates)}" for suite in set(suites)}
    with locked(images / "lock"):
        missing = {suite: root for suite, root in roots.items() if not root.exists()}
        with ThreadPoolExecutor() as pool:
            made = [pool.submit(_make, *item, certificates) for item in missing.items()]
        for future in made:
            future.result()
        _forget_others(images, keep=roots)
    return roots


def _key(certificates: list[Path]) -> str:
    parts = [" ".join(_PACKAGES).encode(), _SETUP.read_bytes()]
    parts += [certificate.read_bytes() for certificate in certificates]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _make(suite: Suite, root: Path, certificates: list[Path]) -> None:
    print(f"Making the base image of {suite.product}, once", flush=True)
    partial = root.with_name(f"{root.name}.partial")
    remove_tree(partial)
    with tempfile.TemporaryDirectory(prefix="jarvis-lab-") as directory:
        for number, certificate in enumerate(certificates):
            shutil.copy(certificate, Path(directory) / f"{number}-{certificate.name}")
        run(
            "mmdebstrap",
            "--variant=minbase",
            f"--include={','.join(_PACKAGES)}",
            f"--customize-hook={_SETUP}",
            suite.value,
            str(partial),
            environment={"JARVIS_LAB_CERTIFICATES": directory},
        )
    partial.rename(root)


def _forget_others(images: Path, keep: dict[Suite, Path]) -> None:
    """Remove images of these suites that nothing makes any more, unless a lab's hosts stand on one."""
    used = Path("/proc/self/mountinfo").read_text()
    for suite, root in keep.items():
        for other in images.glob(f"{suite.value}-*"):
            if other != root and other.name not in used:
                remove_tree(other)
