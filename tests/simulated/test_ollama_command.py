"""The command's client side and its start and end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from simulated_server import ROOT, Held, Server, running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(tmp_path, ["llama3", "mistral"]) as running:
        yield running


@pytest.fixture
def ollama(server: Server) -> Run:
    def run(*arguments: str, host: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "OLLAMA_HOST": host or f"127.0.0.1:{server.port}",
            **more,
        }
        return subprocess.run(
            [sys.executable, "-m", "lab.simulated_ollama", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )

    return run


def test_version(ollama: Run) -> None:
    assert ollama("--version").stdout == "ollama version is 0.0.0-simulated\n"
    other = ollama("-v", SIMULATED_VERSION="9.9.9-simulated").stdout.splitlines()
    assert other == [
        "ollama version is 0.0.0-simulated",
        "Warning: client version is 9.9.9-simulated",
    ]


def test_list_ps_and_stop(server: Server, ollama: Run) -> None:
    listed = ollama("list").stdout.splitlines()
    assert listed[0].split() == ["NAME", "ID", "SIZE", "MODIFIED"]
    assert {line.split()[0] for line in listed[1:]} == {"llama3:latest", "mistral:latest"}
    assert [line.split()[0] for line in ollama("ls", "mis").stdout.splitlines()[1:]] == [
        "mistral:latest"
    ]
    server.chat("llama3", keep_alive="30m")
    head, line = ollama("ps").stdout.splitlines()
    assert head.split() == ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    assert line.startswith("llama3:latest ")
    assert "100% GPU" in line
    assert line.rstrip().endswith("29 minutes from now")
    assert ollama("stop", "llama3").returncode == 0
    assert len(ollama("ps").stdout.splitlines()) == 1


def test_show_copy_and_remove(ollama: Run) -> None:
    shown = ollama("show", "llama3").stdout
    assert "architecture        llama" in shown
    assert "Capabilities\n    completion" in shown
    assert "{{ .Prompt }}" in ollama("show", "llama3", "--template").stdout
    assert ollama("cp", "llama3", "mine").stdout == "copied 'llama3' to 'mine'\n"
    assert ollama("rm", "mine").stdout == "deleted 'mine'\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["show", "nosuch"], "model 'nosuch:latest' not found"),
        (["rm", "nosuch"], "model 'nosuch' not found"),
        (["stop", "nosuch"], 'couldn\'t find model "nosuch" to stop'),
        (["pull"], "accepts 1 arg(s), received 0"),
        (["bogus"], 'unknown command "bogus" for "ollama"'),
    ],
)
def test_mistakes(ollama: Run, arguments: list[str], error: str) -> None:
    done = ollama(*arguments)
    assert (done.returncode, done.stderr) == (1, f"Error: {error}\n")


def test_failed_pull_is_a_failure(ollama: Run) -> None:
    done = ollama("pull", "--insecure", "127.0.0.1:1/a/b")
    assert done.returncode == 1
    assert done.stderr.startswith("pulling manifest\nError: pull model manifest: Get ")


def test_no_server(ollama: Run) -> None:
    done = ollama("list", host="127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr == (
        "Error: could not connect to ollama server, run 'ollama serve' to start it\n"
    )


def test_usage_says_what_it_is(ollama: Run) -> None:
    assert ollama().stdout.startswith("Simulated Ollama")


def test_port_that_is_taken(ollama: Run, server: Server, tmp_path: Path) -> None:
    done = ollama("serve", HOME=str(tmp_path / "unused"))
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: listen tcp 127.0.0.1:{server.port}: bind: address already in use\n"
    )
    assert not (tmp_path / "unused").exists()


def test_hardware_that_cannot_be_read(ollama: Run, tmp_path: Path) -> None:
    done = ollama("serve", SIMULATED_HARDWARE=str(tmp_path / "nosuch"))
    assert done.returncode == 1
    assert "No such file" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_at_once_and_cuts_the_streams(tmp_path: Path, number: signal.Signals) -> None:
    with running_server(tmp_path, time_scale=0.2) as server:
        held = Held(server, "llama3")
        server.process.send_signal(number)
        received = held.read_to_the_end()
        assert b'"done":true' not in received
        assert not received.endswith(b"0\r\n\r\n")
        assert server.process.wait(10) == 0


def test_log_shows_the_effective_settings(tmp_path: Path) -> None:
    with running_server(tmp_path, OLLAMA_NUM_PARALLEL="4", OLLAMA_NO_CLOUD="1") as server:
        server.chat("llama3")
        log = server.has_logged('| POST     "/api/chat"')
        assert "OLLAMA_NUM_PARALLEL:4" in log
        assert "OLLAMA_MAX_QUEUE:512" in log
        assert "Ollama cloud disabled: true" in log
        assert f"Listening on 127.0.0.1:{server.port} (version 0.0.0-simulated)" in log


def test_port_is_free_again_after_the_end(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        port = server.port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
