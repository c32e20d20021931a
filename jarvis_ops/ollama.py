"""What Ollama looks like on an inference node, by its declaration: paths, archives, environment."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from jarvis_ops.text import render
from litellm_plugins.schema import Gpu, Node, OllamaRelease
from litellm_plugins.tuning import OLLAMA_PORT, tuning_of

__all__ = [
    "COMMAND",
    "CURRENT",
    "HOME",
    "PROFILE_FILE",
    "ROOT",
    "UNIT",
    "UNIT_FILE",
    "USER",
    "Archive",
    "archives",
    "environment",
    "marker",
    "needs_rocm",
    "profile_text",
    "proxies",
    "unit_text",
    "url",
]

ROOT = "/opt/ollama"
CURRENT = f"{ROOT}/current"
COMMAND = "/usr/local/bin/ollama"
USER = "ollama"
HOME = "/var/lib/ollama"
UNIT = "ollama.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
PROFILE_FILE = "/etc/profile.d/ollama.sh"

_MODULES = {
    Gpu.NVIDIA: ("nvidia_uvm",),
    Gpu.AMD: ("amdgpu",),
    Gpu.STRIX_HALO: ("amdgpu",),
    Gpu.AMD_IGPU: ("amdgpu",),
    Gpu.INTEL: ("i915", "xe"),
}
"""Kernel modules that have to be there when Ollama starts.

It looks for GPUs once, so a driver that comes later in the boot would leave it on the CPU; and the
list of devices that the service may use is made of those that exist at that time.
"""

_DEVICES = {
    Gpu.NVIDIA: ("char-nvidia*", "char-drm"),
    Gpu.AMD: ("char-kfd", "char-drm", "char-fb"),
    Gpu.STRIX_HALO: ("char-kfd", "char-drm", "char-fb"),
    Gpu.AMD_IGPU: ("char-kfd", "char-drm", "char-fb"),
    Gpu.INTEL: ("char-drm", "char-fb"),
}

_HOMES = ("/home/", "/root/", "/run/user/")

_PROXY_VARIABLES = frozenset({"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY"})


@dataclass(frozen=True)
class Archive:
    """An archive of a release; `sha256` is None if the inventory does not pin it."""

    name: str
    sha256: str | None


def needs_rocm(node: Node) -> bool:
    """Return whether the node's GPU is computed on with AMD's ROCm."""
    return tuning_of(node).rocm


def archives(release: OllamaRelease, node: Node, architecture: str) -> tuple[Archive, ...]:
    """Return the archives that a node needs: the base, and what ROCm needs for AMD's GPUs.

    The architecture is Debian's name of it. There is no ROCm archive for arm64, so a node that
    would need it has to be refused before.
    """
    names = [f"ollama-linux-{architecture}.tar.zst"]
    if needs_rocm(node):
        names.append(f"ollama-linux-{architecture}-rocm.tar.zst")
    return tuple(Archive(name, release.sha256.get(name)) for name in names)


def url(node: Node) -> str:
    """Return where the node's Ollama listens."""
    return f"http://{node.address}:{OLLAMA_PORT}"


def environment(node: Node) -> dict[str, str]:
    """Return the variables of the service; what the inventory sets itself wins."""
    tuning = tuning_of(node)
    derived = {
        "HOME": HOME,
        "OLLAMA_HOST": f"{node.address}:{OLLAMA_PORT}",
        "OLLAMA_MODELS": tuning.models_path,
        "OLLAMA_NUM_PARALLEL": str(tuning.num_parallel),
        "OLLAMA_CONTEXT_LENGTH": str(tuning.context_length),
        "OLLAMA_MAX_LOADED_MODELS": str(tuning.max_loaded_models),
        "OLLAMA_KV_CACHE_TYPE": tuning.kv_cache_type,
        "OLLAMA_KEEP_ALIVE": tuning.keep_alive,
        # No prompt leaves the network, and nothing but what is pulled is fetched.
        "OLLAMA_NO_CLOUD": "1",
        # Blobs that are put there ahead of their manifest survive a restart.
        "OLLAMA_NOPRUNE": "1",
        # With it on, a restored prompt cache can show one user's conversation to another.
        "LLAMA_ARG_CACHE_RAM": "0",
    }
    if tuning.kv_cache_type != "f16":
        # A quantised cache works with flash attention only.
        derived["OLLAMA_FLASH_ATTENTION"] = "1"
    if tuning.igpu:
        # Without it Ollama leaves integrated GPUs alone, without a word.
        derived["OLLAMA_IGPU_ENABLE"] = "1"
    if not node.has_gpu:
        # The name of no library: Ollama then stays on the CPU, also where there is some GPU.
        derived["OLLAMA_LLM_LIBRARY"] = "cpu"
    return {**derived, **node.ollama.environment}


def proxies(node: Node) -> dict[str, str]:
    """Return the declared proxy variables: downloads take the way that pulls take."""
    given = node.ollama.environment
    return {name: value for name, value in given.items() if name in _PROXY_VARIABLES}


def profile_text(node: Node) -> str:
    """Return what makes `ollama` in a login shell on the node talk to the node's service."""
    return render("ollama.sh.j2", address=f"{node.address}:{OLLAMA_PORT}")


def marker(node: Node, release: OllamaRelease) -> str:
    """Return what tells one form of the unit from another; it names the release too."""
    text = _unit(node, release, environment(node))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def unit_text(node: Node, release: OllamaRelease) -> str:
    """Return the whole unit file."""
    marked = {**environment(node), "JARVIS_UNIT": marker(node, release)}
    return _unit(node, release, marked)


def _unit(node: Node, release: OllamaRelease, variables: dict[str, str]) -> str:
    gpu = node.hardware.gpu
    models_path = tuning_of(node).models_path
    return render(
        "ollama.service.j2",
        version=release.version,
        module_units="".join(f" modprobe@{name}.service" for name in _MODULES.get(gpu, ())),
        is_nvidia=gpu is Gpu.NVIDIA,
        program=f"{CURRENT}/bin/ollama",
        environment=variables,
        home=HOME,
        models_path=models_path,
        store_in_home=models_path.startswith(_HOMES),
        devices=_DEVICES.get(gpu, ()),
    )
