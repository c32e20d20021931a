"""The real gateway, as a process of its own, over a fleet file that tests write."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
from simulated_node import ROOT, new_address

from litellm_plugins.auth import key_hash
from litellm_plugins.keys import new_key
from litellm_plugins.schema import load_fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["ONE_SLOT_GPU", "Gateway", "eventually"]

ONE_SLOT_GPU = {"gpu": "nvidia", "memory_gib": 32, "vram_gib": 8}

_START_SECONDS = 120
_WAIT_SECONDS = 30


def eventually(truth: Callable[[], object], what: str) -> None:
    """Wait until something is true.

    Raises:
        AssertionError: if it does not come true; the time is far above what it takes.

    """
    deadline = time.monotonic() + _WAIT_SECONDS
    while not truth():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


class Gateway:
    """A running gateway. Its fleet begins with one node that does not exist."""

    def __init__(self, directory: Path) -> None:
        self.key = new_key()
        self._fleet_path = directory / "fleet.json"
        self._log = directory / "gateway.log"
        self._brain = new_address()
        self._process: subprocess.Popen[str] | None = None
        self.url = ""
        self.ever_declared: set[tuple[str, str]] = set()
        self.write(self.fleet({"nobody": {"address": new_address()}}))

    @property
    def log(self) -> str:
        return self._log.read_text()

    def fleet(self, nodes: dict[str, dict[str, Any]], **changes: Any) -> dict[str, Any]:
        """Return a fleet of these inference nodes, as plain data."""
        self.ever_declared |= {(name, node["address"]) for name, node in nodes.items()}
        routing = {
            "refresh_seconds": 0.3,
            "connect_timeout_seconds": 2,
            "first_token_timeout_seconds": 60,
            **changes.pop("routing", {}),
        }
        return {
            "ollama": {"version": "0.34.2"},
            "keys": {"alice": {"sha256": key_hash(self.key)}},
            "nodes": {"brain": {"address": self._brain, "roles": ["gateway"]}, **nodes},
            "routing": routing,
            **changes,
        }

    def write(self, fleet: dict[str, Any] | str) -> None:
        """Replace the fleet file, as the deploy does."""
        text = fleet if isinstance(fleet, str) else load_fleet(fleet).model_dump_json()
        new = self._fleet_path.with_suffix(".new")
        new.write_text(text)
        new.rename(self._fleet_path)

    def use(self, nodes: dict[str, dict[str, Any]], **changes: Any) -> None:
        """Write a fleet of simulated nodes and wait until the gateway knows all of them."""
        self.write(self.fleet(nodes, **changes))
        wanted = {(name, node["address"]) for name, node in nodes.items()}
        eventually(lambda: self.known() == wanted, f"the gateway knows {wanted}")

    def known(self) -> set[tuple[str, str]]:
        """Return name and address of each node that the gateway has seen well."""
        return {(node["name"], node["address"]) for node in self.nodes().values() if node["well"]}

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return the gateway's view of the nodes, by name."""
        with self.client() as client:
            answer = client.get("/api/nodes").raise_for_status().json()
        return {node["name"]: node for node in answer["nodes"]}

    def busy(self) -> dict[str, int]:
        """Return the taken slots by node."""
        return {name: node["busy"] for name, node in self.nodes().items()}

    @contextmanager
    def client(self, **changes: Any) -> Iterator[httpx.Client]:
        headers = {"Authorization": f"Bearer {self.key}"}
        options = {"base_url": self.url, "headers": headers, "timeout": 60, "trust_env": False}
        with httpx.Client(**{**options, **changes}) as client:
            yield client

    def ask(
        self, model: str, *, headers: dict[str, str] | None = None, **changes: Any
    ) -> httpx.Response:
        """Ask for a short chat."""
        messages = [{"role": "user", "content": "Say hello."}]
        body = {"model": model, "messages": messages, "max_tokens": 4, **changes}
        with self.client() as client:
            return client.post("/v1/chat/completions", json=body, headers=headers)

    @contextmanager
    def stream(self, model: str, **changes: Any) -> Iterator[httpx.Response]:
        """Ask for a chat as a stream."""
        messages = [{"role": "user", "content": "Say hello."}]
        body = {"model": model, "messages": messages, "max_tokens": 4, "stream": True, **changes}
        with (
            self.client() as client,
            client.stream("POST", "/v1/chat/completions", json=body) as answer,
        ):
            yield answer

    def start(self, **environment: str) -> None:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self.command("--port", "0"),
                cwd=ROOT,
                env={**_environment(), **environment},
                stdout=log,
                stderr=log,
                text=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while (found := re.search(r"running on (http://\S+)", self.log)) is None:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)
        self.url = found[1]

    def terminate(self) -> None:
        """Order the process to stop."""
        assert self._process is not None
        self._process.terminate()

    def stop(self) -> None:
        """Order the process to stop, and wait until it has."""
        self.terminate()
        assert self._process is not None
        self._process.wait(timeout=60)

    def check(self) -> subprocess.CompletedProcess[str]:
        """Run the gateway in its check mode."""
        return subprocess.run(
            self.command("--check"),
            cwd=ROOT,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=_START_SECONDS,
        )

    def command(self, *arguments: str) -> list[str]:
        module = [sys.executable, "-m", "litellm_plugins.gateway"]
        return [*module, "--fleet", str(self._fleet_path), *arguments]


def _environment() -> dict[str, str]:
    """Return an environment in which whatever does not go to the nodes fails, and is seen."""
    dead = f"http://{new_address()}:9"
    proxies = dict.fromkeys(
        ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), dead
    )
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **proxies}
