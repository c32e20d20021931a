from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from simulated_server import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulated_server import Server

MODELS = ("llama3", "mistral", "gemma2", "deepseek-r1:7b", "nomic-embed-text")


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the tests share: they neither load its models for good nor change its store."""
    with running_server(
        tmp_path_factory.mktemp("node"), MODELS, OLLAMA_MAX_LOADED_MODELS="8", OLLAMA_NO_CLOUD="1"
    ) as server:
        yield server
