"""Questions to the endpoint, and what the policy says of their answers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from machines import ROOT, declared_fleet

from litellm_plugins.schema import Category, Role, Tier

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

__all__ = [
    "ask",
    "authority",
    "chat_models",
    "chat_models_of",
    "nodes_that_chat",
    "preferred_nodes",
]


def authority() -> Path | None:
    """Return the file of the authority behind the endpoint's certificate, None for a public one."""
    given = os.environ.get("JARVIS_CA_FILE")
    if given is None and declared_fleet().gateway.tls.mode != "internal":
        return None
    path = ROOT.joinpath(given or ".jarvis/ca.crt")
    if not path.is_file():
        pytest.fail(
            f"{path}: there is no such file; deploy the gateway from here, or name the authority of "
            "its certificate in JARVIS_CA_FILE",
            pytrace=False,
        )
    return path


def chat_models_of(node: str) -> tuple[str, ...]:
    """Return the declared models of a node that answer chats, as far as their categories tell."""
    fleet = declared_fleet()
    return tuple(
        model
        for model in fleet.models_of(node)
        if fleet.model(model).category is not Category.EMBEDDING
    )


def chat_models() -> list[str]:
    """Return the declared models, of all nodes that take work, that answer chats."""
    return list(
        dict.fromkeys(model for node in nodes_that_chat() for model in chat_models_of(node))
    )


def nodes_that_chat() -> list[str]:
    """Return the nodes that take work and have a model for it."""
    nodes = declared_fleet().nodes_with(Role.INFERENCE)
    return [name for name, node in nodes.items() if chat_models_of(name) and not node.drain]


def preferred_nodes(model: str) -> set[str]:
    """Return the nodes one of which gets a request for a model while the fleet is idle.

    GPUs come first, and among them the best tier.
    """
    fleet = declared_fleet()
    nodes = fleet.nodes_with(Role.INFERENCE)
    able = {
        name: node
        for name, node in nodes.items()
        if model in fleet.models_of(name) and not node.drain
    }
    able = {name: node for name, node in able.items() if node.has_gpu} or able
    order = list(Tier)
    best = min(order.index(node.effective_tier) for node in able.values())
    return {name for name, node in able.items() if order.index(node.effective_tier) == best}


def ask(
    client: httpx.Client, model: str, *, headers: dict[str, str] | None = None, **changes: Any
) -> httpx.Response:
    """Ask one short question through the endpoint and return its answer."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 8,
        **changes,
    }
    return client.post("/v1/chat/completions", json=body, headers=headers)
