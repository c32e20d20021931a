"""Names of models, as Ollama itself reads them.

Ollama's full form is ``host/namespace/model:tag``; the defaults are
``registry.ollama.ai``, ``library`` and ``latest``, so ``llama3``, ``library/llama3`` and
``llama3:latest`` are one model. LiteLLM users also write a provider in front
(``ollama/llama3``), and ours may ask for a node behind (``llama3@ai-max``).
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["canonical_model", "display_model", "nearest", "split_node"]

_PROVIDERS = ("ollama/", "ollama_chat/", "hosted_vllm/")
_DEFAULT_REGISTRY = "registry.ollama.ai/"
_DEFAULT_NAMESPACE = "library/"
_DEFAULT_TAG = "latest"


def canonical_model(name: str) -> str:
    """Return the name as ``/api/tags`` shows it: defaults dropped, the tag always there.

    ``ollama/Llama3`` becomes ``llama3:latest``. Names of Ollama's own library are lower case; those
    with a namespace keep theirs, since other registries may tell capitals apart. Compare names
    with ``casefold``, as Ollama does when it looks for a model that it has.
    """
    short = name.strip()
    for prefix in (*_PROVIDERS, _DEFAULT_REGISTRY, _DEFAULT_NAMESPACE):
        if short.lower().startswith(prefix):
            short = short[len(prefix) :]
    if "/" not in short:
        short = short.lower()
    if ":" not in short.rpartition("/")[2]:
        short = f"{short}:{_DEFAULT_TAG}"
    return short


def display_model(name: str) -> str:
    """Return the canonical name as people write it: without ``:latest``."""
    return canonical_model(name).removesuffix(f":{_DEFAULT_TAG}")


def split_node(name: str) -> tuple[str, str | None]:
    """Split ``llama3@ai-max`` into the model and the node; the node is ``None`` where none is named."""
    model, at, node = name.rpartition("@")
    if not at:
        return name, None
    return model, node


def nearest(word: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return up to `limit` of the known words that look most like `word`, best first."""
    return get_close_matches(word, list(known), n=limit, cutoff=0.6)
