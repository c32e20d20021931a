"""The certificate authority of the simulated internet. Nothing trusts it but the lab's hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.system import locked, run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["certificate", "issue"]

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_DAYS = "3650"


def certificate(directory: Path) -> Path:
    """Return the authority's certificate; make the authority if it is not there yet."""
    path = directory / "ca.crt"
    with locked(directory / "lock"):
        if not path.exists():
            partial = directory / "ca.partial"
            run(
                *("openssl", "req", "-x509", *_NEW_KEY, "-days", _DAYS),
                *("-subj", "/CN=Jarvis lab: simulated internet"),
                *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
                *("-keyout", str(directory / "ca.key"), "-out", str(partial)),
            )
            partial.rename(path)
    return path


def issue(directory: Path, names: Iterable[str], target: Path) -> tuple[Path, Path]:
    """Make a certificate for these names below `target`; return its path and its key's."""
    listed = list(names)
    made = target / "tls.crt"
    key = target / "tls.key"
    run(
        *("openssl", "req", "-x509", *_NEW_KEY, "-days", _DAYS),
        *("-CA", str(certificate(directory)), "-CAkey", str(directory / "ca.key")),
        *("-subj", f"/CN={listed[0][:64]}"),
        *("-addext", f"subjectAltName={','.join(f'DNS:{name}' for name in listed)}"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
        *("-addext", "extendedKeyUsage=serverAuth"),
        *("-keyout", str(key), "-out", str(made)),
    )
    return made, key
