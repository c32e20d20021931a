"""What the machine must be and have before it can boot hosts."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from lab.system import LabError, run

__all__ = ["prepare", "why_not"]

_PACKAGE_OF = {
    "curl": "curl",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "openssl": "openssl",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
    "zstd": "zstd",
}
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_CAP_SYS_ADMIN = 21
_CAP_NET_ADMIN = 12


def why_not() -> str | None:
    """Return in half a sentence why this machine cannot boot hosts, or None if it can."""
    if sys.platform != "linux":
        return "booted hosts need Linux"
    if os.geteuid() != 0:
        return "booted hosts need root"
    if not _has(_CAP_SYS_ADMIN) or not _has(_CAP_NET_ADMIN):
        return "booted hosts need the capabilities CAP_SYS_ADMIN and CAP_NET_ADMIN (--privileged)"
    if _missing() and shutil.which("apt-get") is None:
        return f"booted hosts need the Debian packages {', '.join(_missing())}"
    return None


def prepare() -> None:
    """Install the Debian packages that are missing, and say which.

    Raises:
        LabError: where the machine cannot boot hosts, or apt cannot install the packages.

    """
    reason = why_not()
    if reason:
        raise LabError(reason)
    packages = _missing()
    if not packages:
        return
    print(f"Installing Debian packages that the lab needs: {', '.join(packages)}", flush=True)
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", environment=quiet)
    run("apt-get", "install", "--yes", "--no-install-recommends", *packages, environment=quiet)


def _missing() -> list[str]:
    packages = {package for program, package in _PACKAGE_OF.items() if not shutil.which(program)}
    if not _KEYRING.exists():
        packages.add("debian-archive-keyring")
    return sorted(packages)


def _has(capability: int) -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> capability & 1)
