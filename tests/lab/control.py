"""The control machine of a lab: runs of the deploy, commands on hosts, questions to the endpoint."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import overlay
from lab.laboratory import REPOSITORY, TIME_SCALE, Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

    from lab.host import Host
    from lab.overlay import Overlay

__all__ = [
    "SMALL_FLEET",
    "Answer",
    "Control",
    "Run",
    "Snapshot",
    "changes",
    "eventually",
    "running_lab",
    "snapshot",
]

_PATIENCE_SECONDS = 300
"""A run that takes longer has hung."""


@dataclass(frozen=True)
class Run:
    """A run of pyinfra that has ended. With `--json`, `stdout` holds its report."""

    status: int
    stdout: str
    stderr: str

    @property
    def report(self) -> dict[str, Any]:
        """The report as data."""
        report: dict[str, Any] = json.loads(self.stdout)
        return report

    @property
    def planned(self) -> dict[str, list[str]]:
        """The operations that the plan says will or may change something, with their hosts."""
        plan = {
            item["name"]: [*item["hosts_with_change"], *item["hosts_with_conditional_change"]]
            for item in self.report["plan"]
        }
        return {name: hosts for name, hosts in plan.items() if hosts}

    @property
    def changed(self) -> list[str]:
        """The operations that changed something."""
        return [item["name"] for item in self.report["results"]["operations"] if item["success"]]

    def reason(self, host: str) -> str:
        """What the last lines on the screen say of a failed host."""
        _, _, summary = self.stderr.rpartition("hosts failed:")
        lines = [line.strip() for line in summary.splitlines()]
        return next(line for line in lines if line.startswith(f"{host}: "))


@dataclass(frozen=True)
class Answer:
    """An HTTP response; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def node(self) -> str:
        """The node that answered."""
        return self.headers["x-jarvis-node"]

    @property
    def data(self) -> dict[str, Any]:
        """The body, which has to be JSON."""
        data: dict[str, Any] = json.loads(self.text)
        return data


_ENDLESS = 100_000
"""Tokens."""


def _question(model: str, **changes: Any) -> str:
    """Return a request for an answer as long as it may be, as JSON."""
    # The simulated Ollama takes the mark for an order; a real model takes the words for one.
    text = f"Count upwards from one, and do not stop. [[tokens={_ENDLESS}]]"
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **changes})


@dataclass(frozen=True)
class Control:
    """The control machine of a lab. `directory` is for its files."""

    lab: Lab
    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables for commands that work on the lab."""
        return {**os.environ, **self.lab.environment}

    def run(self, *options: str, over: Overlay | None = None, **environment: str) -> Run:
        """Run the deploy to its end, with a further overlay over the lab's."""
        return Run(*_end_of(self.start(*options, over=over, **environment)))

    def deploy(self, *options: str, over: Overlay | None = None) -> Run:
        """Run the deploy, which has to succeed."""
        run = self.run("-y", *options, over=over)
        assert run.status == 0, run.stderr
        return run

    def start(
        self, *options: str, over: Overlay | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        """Start the deploy and return at once."""
        command = (Path(sys.executable).with_name("pyinfra"), self.lab.state.inventory, "deploy.py")
        given = {"JARVIS_FLEET_OVERLAY": str(self.overlay(over))} if over else {}
        return self._open(*map(str, command), *options, environment={**given, **environment})

    def overlay(self, over: Overlay) -> Path:
        """Write an overlay that does what the lab's does and then this."""
        path = self.directory / "overlay.yaml"
        overlay.write(path, overlay.combine(overlay.read(self.lab.overlay), over))
        return path

    def shell(self, host: str, script: str) -> str:
        """Run a script as root on a host and return its output."""
        status, stdout, stderr = _end_of(self.ssh(host, script))
        assert status == 0, stderr
        return stdout.rstrip("\n")

    def ssh(self, host: str, script: str) -> subprocess.Popen[str]:
        """Start a script as root on a host."""
        # A connection that is shared would outlive its host, and commands would wait for it.
        alone = ("-o", "ControlPath=none", "-F", str(self.lab.login.config))
        process = self._open("ssh", *alone, host, "sudo", "sh", "-s", stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(script)
        process.stdin.close()
        process.stdin = None
        return process

    @property
    def is_ready(self) -> bool:
        """Whether the endpoint answers, and its gateway has looked at every node."""
        status, stdout, _ = _end_of(self._curl("/health/ready"))
        return status == 0 and " 200" in stdout.partition("\n")[0]

    def get(self, path: str, key: str | None = None) -> Answer:
        """Get a page of the endpoint with the lab's key, or another one."""
        return self._finish(self._curl(path, key=key))

    def ask(self, model: str, **changes: Any) -> Answer:
        """Ask a model one question through the endpoint."""
        return self._finish(self.start_asking(model, **changes))

    def start_asking(self, model: str, **changes: Any) -> subprocess.Popen[str]:
        """Ask a question and return at once; `finish` gets the answer."""
        return self._curl("/v1/chat/completions", "--data", _question(model, **changes))

    def start_streaming(self, model: str, received: Path) -> subprocess.Popen[str]:
        """Ask for an answer of many minutes; what has come of it so far is in a file."""
        body = _question(model, stream=True, max_tokens=_ENDLESS)
        options = ("--no-buffer", "--output", str(received), "--data", body)
        return self._curl("/v1/chat/completions", *options)

    @staticmethod
    def finish(process: subprocess.Popen[str]) -> Answer:
        """Wait for an answer."""
        return Control._finish(process)

    def _curl(self, path: str, *options: str, key: str | None = None) -> subprocess.Popen[str]:
        gateway = self.lab.state.fleet.gateway
        return self._open(
            *(
                "curl",
                "--silent",
                "--show-error",
                "--include",
                "--http1.1",
                "--max-time",
                str(_PATIENCE_SECONDS),
            ),
            *("--cacert", str(self.lab.ca_file)),
            *("--header", f"Authorization: Bearer {key or self.lab.state.key}"),
            *("--header", "Content-Type: application/json"),
            *options,
            f"https://{gateway.hostname}:{gateway.port}{path}",
        )

    @staticmethod
    def _finish(process: subprocess.Popen[str]) -> Answer:
        status, stdout, stderr = _end_of(process)
        assert status == 0, stderr
        head, _, text = stdout.partition("\n\n")
        first, *lines = head.splitlines()
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return Answer(int(first.split()[1]), headers, text)

    def _open(
        self,
        *command: str,
        stdin: int = subprocess.DEVNULL,
        environment: dict[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.lab.command(*command),
            cwd=REPOSITORY,
            env={**self.environment, **(environment or {})},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def _end_of(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return status, stdout and stderr of a process that ends in time."""
    with process:
        try:
            stdout, stderr = process.communicate(timeout=_PATIENCE_SECONDS)
        finally:
            process.kill()
    return process.returncode, stdout, stderr


SMALL_FLEET = Path(__file__).with_name("small_fleet.py")


@contextmanager
def running_lab(
    name: str,
    inventory: Path,
    directories: pytest.TempPathFactory,
    *,
    time_scale: float = TIME_SCALE,
) -> Iterator[Control]:
    """Boot the empty hosts of an inventory, and remove them at the end."""
    lab = Lab(name)
    lab.up(inventory, time_scale=time_scale)
    try:
        yield Control(lab, directories.mktemp("control"))
    finally:
        lab.down()


Snapshot = dict[str, tuple[int, int, int, int, int, str]]

_VOLATILE = ("proc", "sys", "run", "dev", "tmp", "var/log", "var/tmp", "var/lib/systemd")


def snapshot(host: Host) -> Snapshot:
    """Return mode, owner, group, size, time of change and target of all on a host's disk.

    What changes by itself, or holds what programs put away while they run, is left out.
    """
    found: Snapshot = {}
    for folder, folders, files in os.walk(host.root):
        here = Path(folder).relative_to(host.root)
        folders[:] = [name for name in folders if str(here / name) not in _VOLATILE]
        for name in (*folders, *files):
            path = Path(folder, name)
            info = path.lstat()
            target = str(path.readlink()) if stat.S_ISLNK(info.st_mode) else ""
            found[str(here / name)] = (
                *(info.st_mode, info.st_uid, info.st_gid, info.st_size, info.st_mtime_ns),
                target,
            )
    return found


def changes(before: Snapshot, after: Snapshot) -> set[str]:
    """Return the paths at which two snapshots differ."""
    return {path for path in {*before, *after} if before.get(path) != after.get(path)}


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is so; it has to be after so many seconds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"not so after {seconds} seconds"
        time.sleep(0.1)
