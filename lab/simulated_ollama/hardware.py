"""The hardware that the simulation pretends to run on, and what Ollama would make of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lab.simulated_ollama.settings import Settings

__all__ = [
    "CPU",
    "GIB",
    "PROFILES",
    "Device",
    "Hardware",
    "HardwareError",
    "choose_device",
    "read_hardware",
]

GIB = 1 << 30
CPU = "cpu"

_DEFAULT_PATH = "/etc/simulated-hardware.json"


class HardwareError(ValueError):
    """The hardware file cannot be used; the message says why."""


@dataclass(frozen=True)
class Profile:
    """One kind of machine.

    `memory_gib` is what its processor unit for models can address by default. `libraries` are the
    directories of lib/ollama that can drive it, best first. An integrated GPU is dropped by Ollama
    unless `allowed` or OLLAMA_IGPU_ENABLE says otherwise.
    """

    description: str
    memory_gib: float
    libraries: tuple[str, ...]
    integrated: bool = False
    allowed: bool = True


PROFILES: dict[str, Profile] = {
    "strix-halo": Profile("AMD Radeon 8060S", 96, ("rocm_v7_2", "vulkan"), integrated=True),
    "amd-igpu": Profile("AMD Radeon 890M", 16, ("rocm_v7_2", "vulkan"), True, allowed=False),
    "intel": Profile("Intel Arc", 8, ("vulkan",), integrated=True, allowed=False),
    "nvidia": Profile("NVIDIA GeForce RTX", 24, ("cuda_v13", "cuda_v12", "vulkan")),
    "amd": Profile("AMD Radeon RX", 24, ("rocm_v7_2", "vulkan")),
    CPU: Profile("cpu", 16, ()),
}
_ALIASES = {"none": CPU}
_LIBRARY_NAMES = {"cuda": "CUDA", "rocm": "ROCm", "vulkan": "Vulkan"}


@dataclass(frozen=True)
class Hardware:
    """What the hardware file says.

    `time_scale` multiplies the time that hardware takes (loading, prefill, decode): 0.05 is a
    machine twenty times as fast. Timers of Ollama itself are never scaled.
    """

    profile: str = CPU
    time_scale: float = 1.0
    memory_gib: float | None = None


@dataclass(frozen=True)
class Device:
    """What models run on, in the end.

    `profile` keys the speeds; `library` is as the log names it; `kind` is ``discrete``, ``iGPU``
    or empty for a CPU. `dropped` is the integrated GPU that Ollama found and would not use.
    """

    profile: str
    library: str
    library_dir: str
    description: str
    kind: str
    total_bytes: int
    dropped: str | None = None

    @property
    def is_gpu(self) -> bool:
        """Whether models are offloaded at all."""
        return self.profile != CPU


def read_hardware(environment: Mapping[str, str]) -> Hardware:
    """Read the file that SIMULATED_HARDWARE names, else /etc/simulated-hardware.json, else a CPU.

    Raises:
        HardwareError: where a file is there and cannot be used.

    """
    named = environment.get("SIMULATED_HARDWARE", "")
    path = Path(named or _DEFAULT_PATH)
    if not named and not path.exists():
        return Hardware()
    try:
        data = json.loads(path.read_text())
        profile = str(data.get("profile", CPU))
        time_scale = float(data.get("time_scale", 1.0))
        memory = data.get("memory_gib")
        memory_gib = None if memory is None else float(memory)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise HardwareError(f"{path}: {error}") from None
    profile = _ALIASES.get(profile, profile)
    if profile not in PROFILES:
        raise HardwareError(f"{path}: unknown profile {profile!r}; known: {', '.join(PROFILES)}")
    if time_scale < 0:
        raise HardwareError(f"{path}: time_scale must not be negative (it is {time_scale})")
    return Hardware(profile, time_scale, memory_gib)


def choose_device(
    hardware: Hardware, settings: Settings, libraries: frozenset[str] | None
) -> Device:
    """Decide as Ollama's discovery does.

    `libraries` are the directories in lib/ollama; None where there is no such place, and then all
    of them count as installed.
    """
    profile = PROFILES[hardware.profile]
    usable = list(_usable(profile, settings, libraries))
    if not usable:
        return _processor(hardware, None)
    admitted = [name for name in usable if _is_admitted(hardware.profile, name, settings)]
    if not admitted:
        return _processor(hardware, profile.description)
    library = admitted[0]
    return Device(
        profile=hardware.profile,
        library=_LIBRARY_NAMES[library.partition("_")[0]],
        library_dir=library,
        description=f"{profile.description} (simulated)",
        kind="iGPU" if profile.integrated else "discrete",
        total_bytes=int((hardware.memory_gib or profile.memory_gib) * GIB),
    )


def _usable(
    profile: Profile, settings: Settings, libraries: frozenset[str] | None
) -> Iterator[str]:
    if settings.gpus_hidden:
        return
    for name in profile.libraries:
        if settings.llm_library and settings.llm_library != name:
            continue
        if name == "vulkan" and not settings.vulkan:
            continue
        if libraries is None or name in libraries:
            yield name


def _is_admitted(profile: str, library: str, settings: Settings) -> bool:
    if not PROFILES[profile].integrated:
        return True
    if settings.igpu is not None:
        return settings.igpu
    # Of a GPU on the list of allowed ones, Ollama takes the ROCm device only.
    return PROFILES[profile].allowed and library.startswith("rocm")


def _processor(hardware: Hardware, dropped: str | None) -> Device:
    memory = hardware.memory_gib if hardware.profile == CPU else None
    return Device(
        profile=CPU,
        library=CPU,
        library_dir="",
        description="cpu (simulated)",
        kind="",
        total_bytes=int((memory or PROFILES[CPU].memory_gib) * GIB),
        dropped=dropped,
    )
