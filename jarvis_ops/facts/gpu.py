"""GPUs, as the kernel and the vendors' tools show them to anybody."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyinfra.api import FactBase
from typing_extensions import override

from jarvis_ops.facts.value import Value
from jarvis_ops.text import script

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Gpu", "GpuStates", "Gpus"]

_VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}

_NVIDIA_ROW = re.compile(r"^(?P<address>[0-9A-Fa-f:.]+), (?P<mib>\d+), (?P<name>.+)$")
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Gpu(Value):
    """One GPU. Memory is in bytes; `architecture` is AMD's, e.g. gfx1151.

    `gtt` is system memory that the GPU may use; `is_integrated` is known of AMD's only.
    """

    address: str
    vendor: str
    device: str
    driver: str | None = None
    name: str | None = None
    vram: int | None = None
    gtt: int | None = None
    architecture: str | None = None
    is_integrated: bool | None = None


@dataclass(frozen=True)
class Gpus(Value):
    """The GPUs of NVIDIA, AMD and Intel, and whether AMD's compute interface is there."""

    cards: tuple[Gpu, ...] = ()
    has_kfd: bool = False


class GpuStates(FactBase[Gpus]):
    """The GPUs of a machine. Works without drivers: what only they know is None then."""

    default = Gpus

    @override
    def command(self, root: str = "") -> str:
        return script("gpus.sh", (root,))

    @override
    def process(self, output: list[str]) -> Gpus:
        cards: dict[str, dict[str, str]] = {}
        architectures: dict[str, str] = {}
        nvidia: dict[str, tuple[int, str]] = {}
        has_kfd = False
        current: dict[str, str] = {}
        for key, _, value in (line.partition("=") for line in output):
            if key == "gpu":
                current = cards.setdefault(value, {})
            elif key == "kfd":
                architectures.update(_kfd(value))
            elif key == "nvidia":
                nvidia.update(_nvidia(value))
            elif key == "has_kfd":
                has_kfd = True
            else:
                current[key] = value
        known = {address: card for address, card in cards.items() if card.get("vendor") in _VENDORS}
        return Gpus(
            tuple(
                _gpu(address, card, architectures.get(address), nvidia.get(address))
                for address, card in sorted(known.items())
            ),
            has_kfd,
        )


def _gpu(
    address: str, card: dict[str, str], architecture: str | None, nvidia: tuple[int, str] | None
) -> Gpu:
    vendor = _VENDORS[card["vendor"]]
    vram = _number(card.get("mem_info_vram_total"))
    return Gpu(
        address=address,
        vendor=vendor,
        device=card.get("device", ""),
        driver=card.get("driver") or None,
        name=nvidia[1] if nvidia else None,
        vram=nvidia[0] if nvidia else vram,
        gtt=_number(card.get("mem_info_gtt_total")),
        architecture=architecture,
        is_integrated="own_memory" not in card if vendor == "amd" and vram is not None else None,
    )


def _kfd(row: str) -> Iterator[tuple[str, str]]:
    """Read a node of AMD's topology: PCI domain, location, and version as major, minor, stepping.

    The version has two decimal digits for each but the first; names write the last two in hex.
    """
    domain, location, version = (int(word) for word in row.split())
    address = f"{domain:04x}:{location >> 8:02x}:{location >> 3 & 0x1F:02x}.{location & 7:x}"
    yield address, f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def _nvidia(row: str) -> Iterator[tuple[str, tuple[int, str]]]:
    found = _NVIDIA_ROW.match(row)
    if found is None:
        return
    # nvidia-smi writes the domain with eight digits and in capitals, the kernel with four.
    yield found["address"].lower()[-12:], (int(found["mib"]) * _MIB, found["name"])


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
