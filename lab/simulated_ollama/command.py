"""The command ``ollama``, as far as the simulation has it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from lab.simulated_ollama.client import CallError, Client, human_bytes, human_time, table
from lab.simulated_ollama.hardware import HardwareError, read_hardware
from lab.simulated_ollama.settings import parse_host, read_settings
from lab.simulated_ollama.version import simulated_version

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main"]

_USAGE = """Simulated Ollama: no language model runs

Usage:
  ollama [command]

Available Commands:
  serve       Start the simulated server
  show        Show information for a model
  stop        Stop a running model
  pull        Pull a model from a registry
  list        List models
  ps          List running models
  cp          Copy a model
  rm          Remove a model

Flags:
  -h, --help      help for ollama
  -v, --version   Show version information
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in {"-h", "--help", "help"}:
        sys.stdout.write(_USAGE)
        return 0
    try:
        return _run(words[0], words[1:])
    except (CallError, HardwareError, OSError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1


def _run(name: str, arguments: list[str]) -> int:
    if name in {"serve", "start"}:
        return _serve()
    client = Client(*parse_host(os.environ.get("OLLAMA_HOST", "")))
    if name in {"-v", "--version"}:
        return _version(client)
    command = _COMMANDS.get(name)
    if command is None:
        raise CallError(f'unknown command "{name}" for "ollama"')
    run, least, most = command
    given = [word for word in arguments if not word.startswith("-")]
    if not least <= len(given) <= most:
        expected = (
            f"accepts {least} arg(s)" if least == most else f"requires at least {least} arg(s)"
        )
        raise CallError(f"{expected}, received {len(given)}")
    run(client, given, set(arguments) - set(given))
    return 0


def _serve() -> int:
    # Only the server needs the libraries: the client's commands start without loading them.
    from lab.simulated_ollama.server import serve  # noqa: PLC0415

    serve(read_settings(os.environ), read_hardware(os.environ), simulated_version())
    return 0


def _version(client: Client) -> int:
    own = simulated_version()
    running = ""
    try:
        running = str(client.call("GET", "/api/version").get("version", ""))
    except CallError:
        _print("Warning: could not connect to a running Ollama instance")
    if running:
        _print(f"ollama version is {running}")
    if running != own:
        _print(f"Warning: client version is {own}")
    return 0


def _list(client: Client, arguments: list[str], flags: set[str]) -> None:
    del flags
    rows = [
        (
            item["name"],
            item["digest"][:12],
            human_bytes(item["size"]),
            human_time(item["modified_at"]),
        )
        for item in client.call("GET", "/api/tags")["models"]
        if not arguments or item["name"].lower().startswith(arguments[0].lower())
    ]
    _print(table(("NAME", "ID", "SIZE", "MODIFIED"), rows))


def _ps(client: Client, arguments: list[str], flags: set[str]) -> None:
    del flags
    rows = [
        (
            item["name"],
            item["digest"][:12],
            human_bytes(item["size"]),
            _processor(item),
            str(item["context_length"]),
            human_time(item["expires_at"]),
        )
        for item in client.call("GET", "/api/ps")["models"]
        if not arguments or item["name"].startswith(arguments[0])
    ]
    _print(table(("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"), rows))


def _processor(item: dict[str, Any]) -> str:
    size, vram = item["size"], item["size_vram"]
    if vram == 0:
        return "100% CPU"
    if vram >= size:
        return "100% GPU"
    share = round((size - vram) / size * 100)
    return f"{share}%/{100 - share}% CPU/GPU"


def _pull(client: Client, arguments: list[str], flags: set[str]) -> None:
    body = {"model": arguments[0], "insecure": "--insecure" in flags}
    shown = ""
    for line in client.stream("POST", "/api/pull", body):
        text = line["status"]
        if line.get("total"):
            text += f": {100 * line.get('completed', 0) // line['total']}%"
        if text != shown:
            sys.stderr.write(f"{text}\n")
        shown = text


def _show(client: Client, arguments: list[str], flags: set[str]) -> None:
    shown = client.call("POST", "/api/show", {"model": arguments[0]})
    for part in ("license", "modelfile", "parameters", "system", "template"):
        if f"--{part}" in flags:
            _print(str(shown.get(part, "")))
            return
    details, info = shown["details"], shown["model_info"]
    family = info["general.architecture"]
    rows = {
        "architecture": family,
        "parameters": details["parameter_size"],
        "context length": info.get(f"{family}.context_length", ""),
        "embedding length": info.get(f"{family}.embedding_length", ""),
        "quantization": details["quantization_level"],
    }
    _print("  Model")
    for key, value in rows.items():
        _print(f"    {key:<16}    {value}")
    _print("\n  Capabilities")
    for capability in shown["capabilities"]:
        _print(f"    {capability}")


def _stop(client: Client, arguments: list[str], flags: set[str]) -> None:
    del flags
    try:
        client.call("POST", "/api/generate", {"model": arguments[0], "keep_alive": 0})
    except CallError as error:
        if "not found" not in str(error):
            raise
        raise CallError(f'couldn\'t find model "{arguments[0]}" to stop') from None


def _copy(client: Client, arguments: list[str], flags: set[str]) -> None:
    del flags
    source, destination = arguments
    client.call("POST", "/api/copy", {"source": source, "destination": destination})
    _print(f"copied '{source}' to '{destination}'")


def _remove(client: Client, arguments: list[str], flags: set[str]) -> None:
    del flags
    for name in arguments:
        client.call("DELETE", "/api/delete", {"model": name})
        _print(f"deleted '{name}'")


_COMMANDS: dict[str, tuple[Callable[[Client, list[str], set[str]], None], int, int]] = {
    "list": (_list, 0, 1),
    "ls": (_list, 0, 1),
    "ps": (_ps, 0, 1),
    "pull": (_pull, 1, 1),
    "show": (_show, 1, 1),
    "stop": (_stop, 1, 1),
    "cp": (_copy, 2, 2),
    "rm": (_remove, 1, 99),
}


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
