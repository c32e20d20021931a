"""One simulated Ollama in a process of its own, for one test or for several."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from lab.model_store import build_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).resolve().parents[2]
LAYER_BYTES = 3000

_LISTENING = re.compile(r"Listening on .*?:(\d+) \(version ([^)]+)\)")
_PATIENCE_SECONDS = 30.0


class Server:
    """A running server. `http` calls it, `log` is what it has written so far."""

    def __init__(self, command: list[str], directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self.models = directory / "models"
        self.log: list[str] = []
        self._ready = threading.Event()
        self.process = subprocess.Popen(
            [*command, "serve"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        assert self._ready.wait(_PATIENCE_SECONDS), "the server did not start"
        found = _LISTENING.search("\n".join(self.log))
        assert found, "\n".join(self.log)
        self.port = int(found[1])
        self.version = found[2]
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def _read(self) -> None:
        for line in self.process.stdout:
            self.log.append(line.rstrip("\n"))
            if _LISTENING.search(line):
                self._ready.set()
        self._ready.set()

    def stop(self) -> int:
        self.http.close()
        self.process.terminate()
        return self.process.wait(_PATIENCE_SECONDS)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json=body)

    def chat(self, model: str, text: str = "Hello", **fields: Any) -> httpx.Response:
        messages = [{"role": "user", "content": text}]
        return self.post("/api/chat", model=model, messages=messages, stream=False, **fields)

    def lines(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """Return the objects of a native stream."""
        with self.http.stream("POST", path, json=body) as response:
            return [json.loads(line) for line in response.iter_lines()]

    def chunks(self, path: str, **body: Any) -> list[Any]:
        """Return the chunks of an OpenAI stream; the last one is the text ``[DONE]`` if it came."""
        with self.http.stream("POST", path, json={**body, "stream": True}) as response:
            assert response.status_code == 200, response.read()
            assert response.headers["content-type"] == "text/event-stream"
            data = [line.removeprefix("data: ") for line in response.iter_lines() if line]
        return [item if item == "[DONE]" else json.loads(item) for item in data]

    def state(self) -> dict[str, Any]:
        return self.http.get("/simulated/state").json()

    def fault(self, mode: str, **fields: Any) -> None:
        self.post("/simulated/faults", mode=mode, **fields).raise_for_status()

    def running(self) -> dict[str, dict[str, Any]]:
        return {item["name"]: item for item in self.http.get("/api/ps").json()["models"]}

    def add(self, *models: str) -> dict[str, str]:
        return build_store(self.models, models, layer_bytes=LAYER_BYTES)

    def has_logged(self, text: str) -> str:
        """Wait until a text is in the log; return the whole log."""
        return until(lambda: "\n".join(self.log), lambda log: text in log)

    def eventually(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the state fulfils a condition; return that state."""
        return until(self.state, condition)


class Request:
    """A request on a connection of its own, which the client can leave at any time."""

    def __init__(self, server: Server, path: str, **body: Any) -> None:
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._socket.settimeout(_PATIENCE_SECONDS)
        self._socket.sendall(head.encode() + content)
        self._received = b""

    def read_until(self, mark: bytes) -> bytes:
        """Read until something has come; return all that has come so far."""
        while mark not in self._received:
            more = self._socket.recv(65536)
            assert more, f"the server ended with {self._received!r}"
            self._received += more
        return self._received

    def read_more(self) -> bytes:
        """Return what comes next; empty at the end."""
        return self._socket.recv(65536)

    def read_to_the_end(self) -> bytes:
        """Read until the server ends the connection.

        Raises:
            ConnectionResetError: where it does so by a reset.

        """
        while more := self._socket.recv(65536):
            self._received += more
        return self._received

    @property
    def received(self) -> bytes:
        return self._received

    def leave(self) -> None:
        self._socket.close()


class Held(Request):
    """A request that is being answered until its client leaves."""

    def __init__(self, server: Server, model: str, **fields: Any) -> None:
        messages = [{"role": "user", "content": "[[tokens=100000]]"}]
        super().__init__(server, "/api/chat", model=model, messages=messages, **fields)
        self.read_until(b'"done":false')


def until(observe: Callable[[], Any], condition: Callable[[Any], bool]) -> Any:
    """Observe until a condition holds; fail with the last observation after a long time."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition(seen := observe()):
        assert time.monotonic() < deadline, f"still {seen}"
        time.sleep(0.005)
    return seen


@contextmanager
def running_server(
    directory: Path,
    models: Iterable[str] = ("llama3",),
    *,
    profile: str = "nvidia",
    time_scale: float = 0.0,
    command: list[str] | None = None,
    hardware: dict[str, Any] | None = None,
    **environment: str,
) -> Iterator[Server]:
    """Run a server over a new store; further keywords become environment variables."""
    directory.mkdir(parents=True, exist_ok=True)
    build_store(directory / "models", models, layer_bytes=LAYER_BYTES)
    settings = {"profile": profile, "time_scale": time_scale, **(hardware or {})}
    (directory / "hardware.json").write_text(json.dumps(settings))
    server = Server(
        command or [sys.executable, "-m", "lab.simulated_ollama"],
        directory,
        {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "OLLAMA_HOST": "127.0.0.1:0",
            "OLLAMA_MODELS": str(directory / "models"),
            "SIMULATED_HARDWARE": str(directory / "hardware.json"),
            "SIMULATED_NODE": "testnode",
            **environment,
        },
    )
    try:
        yield server
    finally:
        server.stop()
