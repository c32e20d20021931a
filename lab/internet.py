"""The simulated part of the internet: starting it, changing its behaviour, reading its log."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from lab import authority
from lab.mirror import NAMES, Config, Fault, Listener
from lab.network import INTERNET_ADDRESS, processes_in
from lab.system import LabError, end, replace_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.supply import Supply
    from litellm_plugins.schema import Fleet

__all__ = ["Fault", "Internet", "Request", "names_for"]

_PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Request:
    """A request that was answered. `sent` counts the body's bytes; it is None while it lasts."""

    client: str
    method: str
    host: str
    path: str
    range: str | None
    status: int
    sent: int | None = None


@dataclass(frozen=True)
class Internet:
    """The server of one lab, in a namespace of its own."""

    directory: Path
    namespace: str

    @property
    def is_running(self) -> bool:
        """Whether somebody answers."""
        return bool(processes_in([self.namespace]))

    @property
    def _faults(self) -> Path:
        return self.directory / "faults.json"

    @property
    def _log(self) -> Path:
        return self.directory / "requests.jsonl"

    def start(self, supply: Supply, fleet: Fleet, authority_directory: Path) -> None:
        """Serve these releases and models under the names that this fleet asks for.

        Raises:
            LabError: with the last line of its output, where it does not come up.

        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self.set_faults()
        self._log.touch()
        certificate, key = authority.issue(
            authority_directory, names_for(fleet, supply), self.directory
        )
        config = Config(
            address=str(INTERNET_ADDRESS),
            listeners=_listeners(fleet),
            certificate=certificate,
            key=key,
            releases=supply.releases,
            store=supply.store,
            release_hosts=(_host(fleet.ollama.release_url),),
            registry_hosts=(*supply.registries, _host(fleet.ollama.registry_url)),
            faults=self._faults,
            log=self._log,
            ready=self.directory / "ready",
        )
        self._run(config)

    def stop(self) -> None:
        """End it: connections are refused from now on."""
        end(processes_in([self.namespace]))

    def set_faults(self, *faults: Fault) -> None:
        """Replace what goes wrong, from the next request on; nothing does without arguments."""
        text = TypeAdapter(list[Fault]).dump_json(list(faults), exclude_defaults=True)
        replace_text(self._faults, text.decode())

    @contextmanager
    def faults(self, *faults: Fault) -> Iterator[None]:
        """Let these things go wrong for a while."""
        self.set_faults(*faults)
        try:
            yield
        finally:
            self.set_faults()

    def requests(self, *, host: str | None = None, path: str | None = None) -> list[Request]:
        """Return the requests so far, in the order of their answers; of one host, with one path."""
        entries: dict[int, dict[str, Any]] = {}
        whole, _, _ = self._log.read_text().rpartition("\n")
        for line in whole.splitlines():
            entry = json.loads(line)
            entries.setdefault(entry.pop("number"), {}).update(entry)
        return [
            Request(**entry)
            for entry in entries.values()
            if "status" in entry and host in {None, entry["host"]} and path in {None, entry["path"]}
        ]

    def _run(self, config: Config) -> None:
        file = self.directory / "config.json"
        replace_text(file, config.model_dump_json())
        log = self.directory / "server.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, sys.executable, "-m", "lab.mirror", file],
                cwd=Path(__file__).parents[1],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        limit = time.monotonic() + _PATIENCE_SECONDS
        while not config.ready.exists():
            if server.poll() is not None or time.monotonic() > limit:
                said = log.read_text().strip().splitlines() or ["it says nothing"]
                raise LabError(f"the simulated internet does not start: {said[-1]}")
            time.sleep(0.05)


def names_for(fleet: Fleet, supply: Supply) -> list[str]:
    """Return the host names that are answered for, each once."""
    asked = (_host(fleet.ollama.release_url), _host(fleet.ollama.registry_url))
    return list(dict.fromkeys((*NAMES, *asked, *supply.registries)))


def _listeners(fleet: Fleet) -> tuple[Listener, ...]:
    urls = [urlsplit(url) for url in (fleet.ollama.release_url, fleet.ollama.registry_url)]
    asked = {(url.port or (443 if url.scheme == "https" else 80), url.scheme) for url in urls}
    return tuple(
        Listener(port=port, tls=scheme == "https")
        for port, scheme in sorted({(443, "https"), *asked})
    )


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
