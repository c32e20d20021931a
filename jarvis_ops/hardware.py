"""Whether the GPU that a node declares is the one that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litellm_plugins.schema import Gpu as Declared

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jarvis_ops.facts.gpu import Gpu, Gpus
    from litellm_plugins.schema import Node

__all__ = ["doubts"]

_GIB = 1024**3
_PAGES_PER_GIB = 262_144

_STRIX_HALO_ARCHITECTURE = "gfx1151"
_STRIX_HALO_DEVICE = "0x1586"

_NAMES = {
    Declared.NVIDIA: "a GPU of NVIDIA",
    Declared.AMD: "an AMD card with memory of its own",
    Declared.STRIX_HALO: "the GPU of Strix Halo (Ryzen AI Max)",
    Declared.AMD_IGPU: "an integrated AMD GPU",
    Declared.INTEL: "a GPU of Intel",
}

_TOLERANCE = 1.1
"""Memory is declared in round figures, and the driver keeps some of it for itself."""


def doubts(node: Node, gpus: Gpus) -> Iterator[str]:
    """Yield a sentence for each way in which the GPU is not as declared.

    They are for a warning: Ollama works on the CPU meanwhile, a driver may be installed later, and
    what the kernel shows of new hardware cannot be told for sure.
    """
    declared = node.hardware.gpu
    if declared is Declared.NONE:
        return
    fitting = [card for card in gpus.cards if _fits(card, declared)]
    if not fitting:
        there = ", ".join(f"{card.vendor} {card.device}" for card in gpus.cards) or "none"
        yield (
            f"hardware.gpu is {declared.value!r}, but {_NAMES[declared]} is not found (there is: "
            f"{there}); Ollama will compute on the CPU"
        )
        return
    yield from _driver_doubts(fitting, gpus)
    yield from _memory_doubts(node.hardware.vram_gib, fitting)


def _fits(card: Gpu, declared: Declared) -> bool:
    is_strix_halo = (
        card.architecture == _STRIX_HALO_ARCHITECTURE or card.device == _STRIX_HALO_DEVICE
    )
    if declared is Declared.STRIX_HALO:
        return card.vendor == "amd" and is_strix_halo
    if declared is Declared.AMD_IGPU:
        return card.vendor == "amd" and card.is_integrated is not False and not is_strix_halo
    if declared is Declared.AMD:
        return card.vendor == "amd" and card.is_integrated is not True and not is_strix_halo
    return card.vendor == str(declared.value)


def _driver_doubts(cards: list[Gpu], gpus: Gpus) -> Iterator[str]:
    vendor = cards[0].vendor
    if vendor == "nvidia" and all(card.vram is None for card in cards):
        yield "the GPU is there, but nvidia-smi does not show it: install NVIDIA's driver, 550 or newer"
    if vendor == "amd" and all(card.driver != "amdgpu" for card in cards):
        yield "the GPU is there, but the kernel does not drive it: install firmware-amd-graphics"
    elif vendor == "amd" and not gpus.has_kfd:
        yield "/dev/kfd is missing, so ROCm cannot be used: the kernel is too old for this GPU"


def _memory_doubts(declared_gib: float, cards: list[Gpu]) -> Iterator[str]:
    usable = [_usable(card) for card in cards]
    if None in usable:
        return
    found_gib = sum(item or 0 for item in usable) / _GIB
    if declared_gib <= found_gib * _TOLERANCE:
        return
    advice = (
        f"; the kernel lends it more with ttm.pages_limit={declared_gib * _PAGES_PER_GIB:.0f}"
        if any(card.is_integrated for card in cards)
        else ""
    )
    yield (
        f"hardware.vram_gib is {declared_gib:g}, but the GPU can use {found_gib:.0f} GiB{advice}"
    )


def _usable(card: Gpu) -> int | None:
    if card.vram is None:
        return None
    return card.vram + (card.gtt or 0) if card.is_integrated else card.vram
