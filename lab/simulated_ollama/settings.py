"""The service's settings, read from the environment as Ollama reads them.

Names, defaults and forms: Ollama v0.33, envconfig/config.go.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DEFAULT_PORT",
    "FOREVER",
    "Settings",
    "described_settings",
    "parse_duration",
    "parse_host",
    "read_settings",
]

DEFAULT_PORT = 11434
FOREVER = math.inf
"""A keep-alive without an end."""

_DEFAULT_KEEP_ALIVE = 300.0
_DEFAULT_QUEUE = 512
_SHOWN_DEFAULTS = {
    "OLLAMA_CONTEXT_LENGTH": "0",
    "OLLAMA_FLASH_ATTENTION": "false",
    "OLLAMA_IGPU_ENABLE": "",
    "OLLAMA_KEEP_ALIVE": "5m0s",
    "OLLAMA_KV_CACHE_TYPE": "",
    "OLLAMA_LLM_LIBRARY": "",
    "OLLAMA_LOAD_TIMEOUT": "5m0s",
    "OLLAMA_MAX_LOADED_MODELS": "0",
    "OLLAMA_MAX_QUEUE": "512",
    "OLLAMA_NOPRUNE": "false",
    "OLLAMA_NO_CLOUD": "false",
    "OLLAMA_NUM_PARALLEL": "1",
    "OLLAMA_SCHED_SPREAD": "false",
    "OLLAMA_VULKAN": "true",
}
_UNIT_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")


@dataclass(frozen=True)
class Settings:
    """What the environment says.

    `keep_alive` is in seconds, `FOREVER` for no end; `context_length` and `max_loaded_models` are
    zero for "choose yourself"; `igpu` is None where nothing is said; `cache_ram_mib` is the host
    memory for evicted prompts of one runner.
    """

    host: str
    port: int
    models: Path
    keep_alive: float
    num_parallel: int
    max_loaded_models: int
    max_queue: int
    context_length: int
    kv_cache_type: str
    igpu: bool | None
    llm_library: str
    vulkan: bool
    gpus_hidden: bool
    prune: bool
    cloud: bool
    cache_ram_mib: int
    origins: tuple[str, ...]

    @property
    def listens_on_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read every variable; a value that cannot be read counts as unset, as in Ollama."""
    env = {key: value.strip().strip("\"'") for key, value in environment.items()}
    host, port = parse_host(env.get("OLLAMA_HOST", ""))
    home = Path(env.get("HOME", "") or "/")
    return Settings(
        host=host,
        port=port,
        models=Path(env.get("OLLAMA_MODELS") or home / ".ollama" / "models"),
        keep_alive=_keep_alive(env.get("OLLAMA_KEEP_ALIVE", "")),
        num_parallel=_integer(env, "OLLAMA_NUM_PARALLEL", 1),
        max_loaded_models=_integer(env, "OLLAMA_MAX_LOADED_MODELS", 0),
        max_queue=_integer(env, "OLLAMA_MAX_QUEUE", _DEFAULT_QUEUE),
        context_length=_integer(env, "OLLAMA_CONTEXT_LENGTH", 0),
        kv_cache_type=env.get("OLLAMA_KV_CACHE_TYPE", "").lower() or "f16",
        igpu=_switch(env.get("OLLAMA_IGPU_ENABLE", "")),
        llm_library=env.get("OLLAMA_LLM_LIBRARY", ""),
        vulkan=_switch(env.get("OLLAMA_VULKAN", "")) is not False,
        gpus_hidden="-1"
        in {env.get(name, "") for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")},
        prune=not _switch(env.get("OLLAMA_NOPRUNE", "")),
        cloud=not _switch(env.get("OLLAMA_NO_CLOUD", "")),
        cache_ram_mib=_integer(env, "LLAMA_ARG_CACHE_RAM", 8192),
        origins=_origins(env.get("OLLAMA_ORIGINS", "")),
    )


def described_settings(environment: Mapping[str, str]) -> list[str]:
    """Return ``NAME:value`` for every variable that Ollama knows, as its log shows them."""
    shown = {**_SHOWN_DEFAULTS, **_known(environment)}
    host, port = parse_host(environment.get("OLLAMA_HOST", ""))
    models = str(read_settings(environment).models)
    shown.update(OLLAMA_HOST=f"http://{host}:{port}", OLLAMA_MODELS=models)
    return [f"{name}:{value}" for name, value in sorted(shown.items())]


def _known(environment: Mapping[str, str]) -> dict[str, str]:
    prefixes = ("OLLAMA_", "LLAMA_ARG_", "SIMULATED_")
    return {name: value for name, value in environment.items() if name.startswith(prefixes)}


def parse_host(text: str) -> tuple[str, int]:
    """Return address and port of an OLLAMA_HOST: ``1.2.3.4``, ``:8080``, ``http://name:80/``."""
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "", text
    default = {"http": 80, "https": 443}.get(scheme, DEFAULT_PORT)
    authority = rest.partition("/")[0]
    if authority.startswith("["):
        host, _, tail = authority[1:].partition("]")
        return host, _port(tail.removeprefix(":"), default)
    if authority.count(":") > 1:
        return authority, default
    host, colon, port = authority.partition(":")
    # A port alone listens everywhere, as in Go; nothing at all listens on loopback.
    return host or ("0.0.0.0" if colon else "127.0.0.1"), _port(port, default)


def parse_duration(text: str) -> float:
    """Return the seconds of a Go duration such as ``1h30m`` or ``-1s``.

    Raises:
        ValueError: where the text is no Go duration.

    """
    sign = -1.0 if text.startswith("-") else 1.0
    body = text.lstrip("+-")
    if body == "0":
        return 0.0
    parts = _DURATION_PART.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        raise ValueError(f'time: invalid duration "{text}"')
    return sign * sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)


def _keep_alive(text: str) -> float:
    try:
        seconds = float(int(text)) if text.lstrip("-").isdigit() else parse_duration(text)
    except ValueError:
        return _DEFAULT_KEEP_ALIVE
    return FOREVER if seconds < 0 else seconds


def _origins(text: str) -> tuple[str, ...]:
    given = tuple(text.split(",")) if text else ()
    hosts = ("localhost", "127.0.0.1", "0.0.0.0")
    local = tuple(
        f"{scheme}://{host}{port}"
        for host in hosts
        for port in ("", ":*")
        for scheme in ("http", "https")
    )
    apps = ("app", "file", "tauri", "vscode-webview", "vscode-file")
    return (*given, *local, *(f"{scheme}://*" for scheme in apps))


def _port(text: str, default: int) -> int:
    if not text.isdigit() or int(text) > 65535:
        return default
    return int(text)


def _integer(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, "")
    return int(text) if text.isdigit() else default


def _switch(text: str) -> bool | None:
    """Read a Go boolean; any other text counts as true, as Ollama counts it."""
    if not text:
        return None
    return text not in {"0", "f", "F", "false", "False", "FALSE"}
