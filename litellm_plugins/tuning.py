"""Settings of Ollama derived from a node's declared hardware.

Here, and not on the control side, because both sides must agree: the deploy renders these
figures into the service's environment, and the gateway counts slots by the same figures.
"""

from __future__ import annotations

from dataclasses import dataclass

from litellm_plugins.schema import Gpu, Hardware, Node

__all__ = ["OLLAMA_PORT", "Tuning", "slots", "tuning_of"]

OLLAMA_PORT = 11434

_INTEGRATED = frozenset({Gpu.STRIX_HALO, Gpu.AMD_IGPU, Gpu.INTEL})
_AMD = frozenset({Gpu.AMD, Gpu.STRIX_HALO, Gpu.AMD_IGPU})

_SERIAL_FAMILIES = frozenset(
    {
        "bert",
        "nomic-bert",
        "nomic-bert-moe",
        "mllama",
        "qwen3vl",
        "qwen3vlmoe",
        "qwen35",
        "qwen35moe",
        "qwen3next",
        "lfm2",
        "lfm2moe",
        "nemotron_h",
        "nemotron_h_moe",
    }
)
"""Model families that Ollama answers one at a time whatever OLLAMA_NUM_PARALLEL says.

Source: Ollama v0.33.0-rc2, server/sched.go (embedding-only models and the listed families).
"""

_DEFAULT_MODELS_PATH = "/var/lib/ollama/models"


@dataclass(frozen=True)
class Tuning:
    """What Ollama is told on one node.

    `context_length` is in tokens and per slot; `num_parallel` is slots per loaded model.
    """

    num_parallel: int
    context_length: int
    max_loaded_models: int
    kv_cache_type: str
    keep_alive: str
    igpu: bool
    rocm: bool
    models_path: str


@dataclass(frozen=True)
class _Size:
    """One step of the table: from this much memory on, in GiB, these figures."""

    at_least_gib: float
    num_parallel: int
    context_length: int
    max_loaded_models: int


_GPU_SIZES = (
    _Size(60, num_parallel=4, context_length=16384, max_loaded_models=4),
    _Size(22, num_parallel=4, context_length=16384, max_loaded_models=2),
    _Size(15, num_parallel=2, context_length=8192, max_loaded_models=2),
    _Size(7, num_parallel=1, context_length=8192, max_loaded_models=1),
    _Size(0, num_parallel=1, context_length=4096, max_loaded_models=1),
)
"""For GPUs, by the memory that they can use.

A step is chosen so that an 8B model (4.9 GB, and 128 KiB of f16 cache per token) with all its
slots full fits twice where two models may be loaded. Four slots decode 3.1 times what one does on
Strix Halo and a second one 1.8 times on smaller GPUs (llama.cpp batch benchmarks, see
`docs/nodes.md`); a fifth and later one add little.
"""

_CPU_SIZES = (
    _Size(30, num_parallel=1, context_length=4096, max_loaded_models=2),
    _Size(0, num_parallel=1, context_length=4096, max_loaded_models=1),
)
"""For CPUs, by the memory of the machine.

Ollama does not check that a second model fits in memory on a machine without a GPU, so the number
of loaded models is what keeps the machine from swapping.
"""

_SMALL_GPU_GIB = 12
"""Below this, the cache is quantised to 8 bits: half the memory for a context, nearly no loss."""


def tuning_of(node: Node) -> Tuning:
    """Derive the settings of a node; what the inventory sets wins."""
    derived = _by_memory(node.hardware)
    given = node.ollama
    return Tuning(
        num_parallel=given.num_parallel or derived.num_parallel,
        context_length=given.context_length or derived.context_length,
        max_loaded_models=given.max_loaded_models or derived.max_loaded_models,
        kv_cache_type=given.kv_cache_type or _kv_cache_type(node.hardware),
        keep_alive=given.keep_alive or "30m",
        igpu=node.hardware.gpu in _INTEGRATED,
        rocm=node.hardware.gpu in _AMD,
        models_path=given.models_path or _DEFAULT_MODELS_PATH,
    )


def slots(tuning: Tuning, family: str) -> int:
    """Return how many requests a node answers at a time for a model of this family."""
    return 1 if family in _SERIAL_FAMILIES else tuning.num_parallel


def _by_memory(hardware: Hardware) -> _Size:
    sizes, gib = (
        (_CPU_SIZES, hardware.memory_gib)
        if hardware.gpu is Gpu.NONE
        else (_GPU_SIZES, hardware.vram_gib)
    )
    return next(size for size in sizes if gib >= size.at_least_gib)


def _kv_cache_type(hardware: Hardware) -> str:
    is_small_gpu = hardware.gpu is not Gpu.NONE and hardware.vram_gib < _SMALL_GPU_GIB
    return "q8_0" if is_small_gpu else "f16"
