"""Simulated Ollama nodes, each a process of its own on a loopback address of its own."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from lab.model_store import build_store
from litellm_plugins.tuning import OLLAMA_PORT

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["SimulatedNode", "new_address"]

ROOT = Path(__file__).resolve().parents[2]

_START_SECONDS = 30
_LAYER_BYTES = 2000

_numbers = itertools.count(10)


def new_address() -> str:
    """Return a loopback address that nobody in this run has had; runs beside this one differ."""
    number = next(_numbers)
    return f"127.{100 + os.getpid() % 100}.{number // 250}.{number % 250 + 1}"


class SimulatedNode:
    """One node. `time_scale` multiplies the time that its simulated hardware takes."""

    def __init__(self, directory: Path, models: Iterable[str], time_scale: float = 0.0) -> None:
        self.address = new_address()
        self.url = f"http://{self.address}:{OLLAMA_PORT}"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._client = httpx.Client(base_url=self.url, timeout=10, trust_env=False)
        directory.mkdir(parents=True)
        hardware = {"profile": "nvidia", "time_scale": time_scale}
        (directory / "hardware.json").write_text(json.dumps(hardware))
        self.pull(*models)

    def launch(self) -> None:
        """Start the process; it answers a moment later."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._directory),
            "OLLAMA_HOST": f"{self.address}:{OLLAMA_PORT}",
            "OLLAMA_MODELS": str(self._directory / "models"),
            "OLLAMA_NO_CLOUD": "1",
            "SIMULATED_HARDWARE": str(self._directory / "hardware.json"),
        }
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lab.simulated_ollama", "serve"],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, (self._directory / "log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """End the process, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let the process accept connections and answer nothing, on whatever path."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def pull(self, *models: str) -> None:
        """Put models into the store, as `ollama pull` by hand would."""
        build_store(self._directory / "models", models, layer_bytes=_LAYER_BYTES)

    def remove(self, model: str) -> None:
        """Take a model out of the store."""
        self._client.request("DELETE", "/api/delete", json={"model": model}).raise_for_status()

    def fault(self, mode: str, **options: Any) -> None:
        """Switch a fault on; see lab/simulated_ollama/faults.py."""
        self._client.post("/simulated/faults", json={"mode": mode, **options}).raise_for_status()

    def load(self, model: str) -> None:
        """Have a model in memory."""
        body = {"model": model, "keep_alive": -1}
        self._client.post("/api/generate", json=body).raise_for_status()

    def state(self) -> dict[str, Any]:
        """Return what goes on inside; see lab/simulated_ollama/control_api.py."""
        return self._client.get("/simulated/state").raise_for_status().json()

    def _answers(self) -> bool:
        try:
            return self._client.get("/api/version").is_success
        except httpx.HTTPError:
            return False

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
