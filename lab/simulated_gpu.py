"""A simulated GPU for a host of the lab: what the kernel would show of the one it declares.

The files are made up after what `/sys` shows on such machines. They are put over the host's own
`/sys` by a service of the host, so that they are there after every boot.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.host import File
from litellm_plugins.schema import Gpu

if TYPE_CHECKING:
    from collections.abc import Iterator

    from litellm_plugins.schema import Hardware

__all__ = ["files", "links"]

_BASE = "/usr/share/simulated-hardware"
_UNIT = "simulated-hardware.service"
_SLOT = "0000:c5:00.0"
_GIB = 1 << 30


@dataclass(frozen=True)
class _Card:
    """Vendor and device as PCI ids; `gfx_target` as the kernel's KFD numbers an AMD GPU."""

    vendor: str
    device: str
    driver: str
    gfx_target: int | None = None
    carve_out_gib: float | None = None


_CARDS = {
    Gpu.NVIDIA: _Card("0x10de", "0x2684", "nvidia"),
    Gpu.AMD: _Card("0x1002", "0x744c", "amdgpu", 110000),
    Gpu.STRIX_HALO: _Card("0x1002", "0x1586", "amdgpu", 110501, carve_out_gib=0.5),
    Gpu.AMD_IGPU: _Card("0x1002", "0x150e", "amdgpu", 110500, carve_out_gib=0.5),
    Gpu.INTEL: _Card("0x8086", "0x56a0", "xe"),
}

_SERVICE = f"""\
[Unit]
Description=Simulated hardware: a GPU that is not there
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/mount -t overlay -o lowerdir={_BASE}/class:/sys/class overlay /sys/class
ExecStart=/bin/mount -t overlay -o lowerdir={_BASE}/pci:/sys/bus/pci/devices overlay \\
    /sys/bus/pci/devices
ExecStart=/bin/mkdir -p /dev/dri
ExecStart=/bin/ln -sf null /dev/kfd
ExecStart=/bin/ln -sf ../null /dev/dri/renderD128
"""

_NVIDIA_SMI = """\
#!/usr/bin/python3
# Simulated: answers `nvidia-smi --query-gpu=... --format=csv,noheader,nounits` for one made-up GPU.
import sys

VALUES = {values}
query = [word.partition("=")[2] for word in sys.argv if word.startswith("--query-gpu=")]
if not query:
    sys.exit("simulated nvidia-smi: only --query-gpu is simulated")
print(", ".join(VALUES.get(name, "[N/A]") for name in query[0].split(",")))
"""


def files(hardware: Hardware) -> Iterator[File]:
    """Yield the files that make a host show the GPU that it declares; none for none."""
    card = _CARDS.get(hardware.gpu)
    if card is None:
        return
    yield File(f"/etc/systemd/system/{_UNIT}", _SERVICE)
    device = {
        "vendor": card.vendor,
        "device": card.device,
        "class": "0x030000",
        "uevent": f"DRIVER={card.driver}\nPCI_SLOT_NAME={_SLOT}",
        **_memory(card, hardware),
    }
    for directory in (f"class/drm/{name}/device" for name in ("card1", "renderD128")):
        yield from _tree(directory, device)
    yield from _tree(f"pci/{_SLOT}", device)
    if card.gfx_target:
        yield from _tree(
            "class/kfd/kfd/topology/nodes/0",
            {"properties": "cpu_cores_count 16\ndrm_render_minor 0"},
        )
        yield from _tree("class/kfd/kfd/topology/nodes/1", {"properties": _properties(card)})
    if hardware.gpu is Gpu.NVIDIA:
        yield File("/usr/bin/nvidia-smi", _nvidia_smi(hardware), 0o755)


def links(hardware: Hardware) -> Iterator[tuple[str, str]]:
    """Yield the links, by path and target, that belong to the files."""
    card = _CARDS.get(hardware.gpu)
    if card is None:
        return
    yield f"/etc/systemd/system/sysinit.target.wants/{_UNIT}", f"../{_UNIT}"
    for directory in ("class/drm/card1/device", "class/drm/renderD128/device", f"pci/{_SLOT}"):
        yield f"{_BASE}/{directory}/driver", f"../../../bus/pci/drivers/{card.driver}"


def _memory(card: _Card, hardware: Hardware) -> dict[str, str]:
    """Return the counters of amdgpu, in bytes; an integrated GPU borrows nearly all of its memory."""
    if card.driver != "amdgpu":
        return {}
    own = hardware.vram_gib if card.carve_out_gib is None else card.carve_out_gib
    borrowed = hardware.memory_gib / 2 if card.carve_out_gib is None else hardware.vram_gib
    counters = {
        "mem_info_vram_total": own,
        "mem_info_vis_vram_total": own,
        "mem_info_vram_used": 0,
        "mem_info_gtt_total": borrowed,
        "mem_info_gtt_used": 0,
    }
    sizes = {name: str(int(gib * _GIB)) for name, gib in counters.items()}
    return sizes if card.carve_out_gib else {**sizes, "mem_info_vram_vendor": "samsung"}


def _properties(card: _Card) -> str:
    return "\n".join(
        (
            "cpu_cores_count 0",
            "simd_count 80",
            f"gfx_target_version {card.gfx_target}",
            f"vendor_id {int(card.vendor, 16)}",
            f"device_id {int(card.device, 16)}",
            "domain 0",
            f"location_id {0xC5 << 8}",
            "drm_render_minor 128",
        )
    )


def _nvidia_smi(hardware: Hardware) -> str:
    mebibytes = str(int(hardware.vram_gib * 1024))
    values = {
        "index": "0",
        "pci.bus_id": f"0000{_SLOT.upper()}",
        "name": "NVIDIA GeForce RTX (simulated)",
        "uuid": "GPU-51000000-0000-0000-0000-000000000001",
        "memory.total": mebibytes,
        "memory.used": "0",
        "memory.free": mebibytes,
        "driver_version": "570.00",
        "compute_cap": "8.9",
    }
    return _NVIDIA_SMI.format(values=json.dumps(values))


def _tree(directory: str, contents: dict[str, str]) -> Iterator[File]:
    for name, text in contents.items():
        yield File(f"{_BASE}/{directory}/{name}", f"{text}\n")
