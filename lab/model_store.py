"""Builds a store of simulated models in Ollama's layout, for a registry or for a node."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.simulated_ollama.blob import ModelHeader, padding, write_header
from lab.simulated_ollama.names import parse_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lab.simulated_ollama.names import ModelName

__all__ = ["DEFAULT_LAYER_BYTES", "build_store", "known_models", "model_header"]

DEFAULT_LAYER_BYTES = 4 * 1000 * 1000
"""Real bytes of a model layer: enough that a pull shows progress, little enough to be quick."""

_MEDIA = "application/vnd.ollama.image"
_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"

_GB = 1_000_000_000


@dataclass(frozen=True)
class _Known:
    """One row of the catalogue; `parameters` in billions, `gigabytes` decimal."""

    family: str
    parameters: float
    gigabytes: float
    context: int
    quantization: str
    cache_bytes: int
    embedding: int
    capabilities: tuple[str, ...] = ("completion",)
    continues: bool = True


_TOOLS = ("completion", "tools")
_THINKS = ("completion", "thinking")
_CODES = ("completion", "tools", "insert")

_LLAMA_8B = 131072
_LLAMA_70B = 327680

_CATALOGUE: dict[str, _Known] = {
    "llama3:latest": _Known("llama", 8.03, 4.66, 8192, "Q4_0", _LLAMA_8B, 4096),
    "llama3:8b": _Known("llama", 8.03, 4.66, 8192, "Q4_0", _LLAMA_8B, 4096),
    "llama3:70b": _Known("llama", 70.6, 40.0, 8192, "Q4_0", _LLAMA_70B, 8192),
    "llama3.1:latest": _Known("llama", 8.03, 4.92, 131072, "Q4_K_M", _LLAMA_8B, 4096, _TOOLS),
    "llama3.1:8b": _Known("llama", 8.03, 4.92, 131072, "Q4_K_M", _LLAMA_8B, 4096, _TOOLS),
    "llama3.1:70b": _Known("llama", 70.6, 42.5, 131072, "Q4_K_M", _LLAMA_70B, 8192, _TOOLS),
    "llama3.2:latest": _Known("llama", 3.21, 2.02, 131072, "Q4_K_M", 114688, 3072, _TOOLS),
    "llama3.2:3b": _Known("llama", 3.21, 2.02, 131072, "Q4_K_M", 114688, 3072, _TOOLS),
    "llama3.2:1b": _Known("llama", 1.24, 1.32, 131072, "Q8_0", 32768, 2048, _TOOLS),
    "mistral:latest": _Known("llama", 7.25, 4.37, 32768, "Q4_K_M", 131072, 4096, _TOOLS),
    "mistral:7b": _Known("llama", 7.25, 4.37, 32768, "Q4_K_M", 131072, 4096, _TOOLS),
    "deepseek-r1:1.5b": _Known("qwen2", 1.78, 1.12, 131072, "Q4_K_M", 28672, 1536, _THINKS),
    "deepseek-r1:7b": _Known("qwen2", 7.62, 4.68, 131072, "Q4_K_M", 57344, 3584, _THINKS),
    "deepseek-r1:8b": _Known("llama", 8.03, 4.92, 131072, "Q4_K_M", 131072, 4096, _THINKS),
    "deepseek-r1:14b": _Known("qwen2", 14.8, 8.99, 131072, "Q4_K_M", 196608, 5120, _THINKS),
    "deepseek-r1:32b": _Known("qwen2", 32.8, 19.9, 131072, "Q4_K_M", 262144, 5120, _THINKS),
    "deepseek-r1:70b": _Known("llama", 70.6, 42.5, 131072, "Q4_K_M", _LLAMA_70B, 8192, _THINKS),
    "deepseek-coder:1.3b": _Known("llama", 1.3, 0.776, 16384, "Q4_0", 196608, 2048),
    "deepseek-coder:6.7b": _Known("llama", 6.7, 3.83, 16384, "Q4_0", 524288, 4096),
    "deepseek-coder:33b": _Known("llama", 33.3, 18.8, 16384, "Q4_0", 253952, 7168),
    "qwen2.5-coder:0.5b": _Known("qwen2", 0.494, 0.398, 32768, "Q4_K_M", 12288, 896, _CODES),
    "qwen2.5-coder:1.5b": _Known("qwen2", 1.54, 0.986, 32768, "Q4_K_M", 28672, 1536, _CODES),
    "qwen2.5-coder:3b": _Known("qwen2", 3.09, 1.93, 32768, "Q4_K_M", 36864, 2048, _CODES),
    "qwen2.5-coder:latest": _Known("qwen2", 7.62, 4.68, 32768, "Q4_K_M", 57344, 3584, _CODES),
    "qwen2.5-coder:7b": _Known("qwen2", 7.62, 4.68, 32768, "Q4_K_M", 57344, 3584, _CODES),
    "qwen2.5-coder:14b": _Known("qwen2", 14.8, 8.99, 32768, "Q4_K_M", 196608, 5120, _CODES),
    "qwen2.5-coder:32b": _Known("qwen2", 32.8, 19.9, 32768, "Q4_K_M", 262144, 5120, _CODES),
    "phi3:latest": _Known("phi3", 3.82, 2.18, 131072, "Q4_0", 393216, 3072),
    "gemma2:latest": _Known("gemma2", 9.24, 5.44, 8192, "Q4_0", 301056, 3584, continues=False),
    "gemma2:2b": _Known("gemma2", 2.61, 1.63, 8192, "Q4_0", 106496, 2304, continues=False),
    "gemma2:9b": _Known("gemma2", 9.24, 5.44, 8192, "Q4_0", 301056, 3584, continues=False),
    "gemma2:27b": _Known("gemma2", 27.2, 15.6, 8192, "Q4_0", 376832, 4608, continues=False),
    "nomic-embed-text:latest": _Known(
        "nomic-bert", 0.137, 0.274, 2048, "F16", 0, 768, ("embedding",)
    ),
}
"""Public figures of the default files of Ollama's library; caches by Ollama's own formula, f16."""

_PARAMETERS_IN_TAG = re.compile(r"(\d+(?:\.\d+)?)([bm])(?![a-z])")
_GUESSED_PARAMETERS = 7.0
_GIGABYTES_PER_BILLION = 0.6
_EMBEDS = re.compile(r"embed|^bge-|^all-minilm|^snowflake-arctic")


def known_models() -> tuple[str, ...]:
    """Return the names that the catalogue has figures for."""
    return tuple(_CATALOGUE)


def model_header(name: str) -> ModelHeader:
    """Describe a model: from the catalogue, else by a guess from its name and tag."""
    parsed = parse_name(name)
    known = _CATALOGUE.get(parsed.shortest.lower()) or _guess(parsed)
    return ModelHeader(
        name=parsed.shortest,
        family=known.family,
        parameters=int(known.parameters * _GB),
        parameter_size=_parameter_size(known.parameters),
        quantization=known.quantization,
        nominal_size=int(known.gigabytes * _GB),
        context_length=known.context,
        embedding_length=known.embedding,
        cache_bytes=known.cache_bytes,
        capabilities=known.capabilities,
    )


def build_store(
    directory: Path, models: Iterable[str], *, layer_bytes: int = DEFAULT_LAYER_BYTES
) -> dict[str, str]:
    """Write models below a directory, which becomes an OLLAMA_MODELS; return name -> digest.

    The digest is that of the manifest, as ``/api/tags`` shows it. The same names and sizes give
    the same bytes. `layer_bytes` is what a model layer takes on disk; its header says what it
    stands for.

    Raises:
        ValueError: where a name is none that Ollama accepts.

    """
    return {parse_name(name).shortest: _build(directory, name, layer_bytes) for name in models}


def _build(directory: Path, name: str, layer_bytes: int) -> str:
    parsed = parse_name(name)
    if not parsed.is_valid:
        raise ValueError(f"invalid model name: {name!r}")
    header = model_header(name)
    known = _CATALOGUE.get(parsed.shortest.lower()) or _guess(parsed)
    blobs = directory / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    layers = [
        _write(blobs, f"{_MEDIA}.model", _weights(header, layer_bytes)),
        _write(blobs, f"{_MEDIA}.template", _template(continues=known.continues)),
        _write(blobs, f"{_MEDIA}.license", _LICENSE),
        _write(blobs, f"{_MEDIA}.params", json.dumps({"stop": ["<|end|>"]}).encode()),
    ]
    config = _write(blobs, _CONFIG_TYPE, _config(header, [item["digest"] for item in layers]))
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "config": config,
        "layers": layers,
    }
    content = json.dumps(manifest, separators=(",", ":")).encode()
    path = parsed.path_in(directory / "manifests")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


_LICENSE = b"Simulated: this is no model, and no license of one applies.\n"


def _weights(header: ModelHeader, size: int) -> bytes:
    head = write_header(header)
    return head + b"".join(padding(header.name, size - len(head)))


def _template(*, continues: bool) -> bytes:
    """Return a template: one with `.Response` continues a trailing message of the assistant."""
    if continues:
        return b"{{ .System }}\n<user>{{ .Prompt }}\n<assistant>{{ .Response }}"
    return b"{{ range .Messages }}\n<{{ .Role }}>{{ .Content }}{{ end }}\n<assistant>"


def _config(header: ModelHeader, digests: list[str]) -> bytes:
    return json.dumps(
        {
            "model_format": "gguf",
            "model_family": header.family,
            "model_families": [header.family],
            "model_type": header.parameter_size,
            "file_type": header.quantization,
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": digests},
        },
        separators=(",", ":"),
    ).encode()


def _write(blobs: Path, media_type: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    path = blobs / f"sha256-{digest}"
    if not path.exists():
        path.write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _guess(name: ModelName) -> _Known:
    found = _PARAMETERS_IN_TAG.search(name.tag.lower()) or _PARAMETERS_IN_TAG.search(
        name.model.lower()
    )
    parameters = _GUESSED_PARAMETERS
    if found:
        parameters = float(found[1]) / (1000 if found[2] == "m" else 1)
    gigabytes = max(parameters * _GIGABYTES_PER_BILLION, 0.05)
    if _EMBEDS.search(name.model.lower()):
        return _Known("bert", parameters, gigabytes, 2048, "F16", 0, 1024, ("embedding",))
    return _Known("llama", parameters, gigabytes, 32768, "Q4_K_M", _LLAMA_8B, 4096, _TOOLS)


def _parameter_size(billions: float) -> str:
    return f"{billions:.3g}B" if billions >= 1 else f"{billions * 1000:.3g}M"
