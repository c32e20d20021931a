"""The process: its check mode, its start and end, and where it connects to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from gateway_process import Gateway, eventually
from simulated_node import ROOT, SimulatedNode

if TYPE_CHECKING:
    from pathlib import Path


def test_check_mode_starts_everything_once(tmp_path: Path) -> None:
    result = Gateway(tmp_path).check()
    assert (result.returncode, result.stdout) == (0, "")


def test_check_mode_names_each_mistake(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    fleet = gateway.fleet({"big": {"address": "127.0.0.300", "modles": []}})
    gateway.write(json.dumps(fleet))
    result = gateway.check()
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert any("nodes.big.modles: unknown key; did you mean 'models'?" in line for line in lines)
    assert any("nodes.big.address" in line for line in lines)


def test_a_missing_fleet_file_is_one_line(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    (tmp_path / "fleet.json").unlink()
    result = gateway.check()
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "fleet.json" in result.stderr


_WATCH = """
import os, sys
sys.modules["uvloop"] = None  # its connections are made in C, where no audit hook sees them
log = open(os.environ["CONNECTIONS_LOG"], "a", buffering=1)

def hook(event, arguments):
    if event == "socket.connect":
        log.write(f"connect {arguments[1]!r}\\n")
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        log.write(f"resolve {arguments[0]!r}\\n")

sys.addaudithook(hook)
"""


def test_nothing_is_sent_anywhere_but_to_the_nodes(tmp_path: Path) -> None:
    watched = tmp_path / "connections"
    (tmp_path / "sitecustomize.py").write_text(_WATCH)
    node = SimulatedNode(tmp_path / "node", ["llama3", "nomic-embed-text"])
    node.launch()
    node.wait()
    gateway = Gateway(tmp_path)
    gateway.start(PYTHONPATH=str(tmp_path), CONNECTIONS_LOG=str(watched))
    try:
        gateway.use({"big": {"address": node.address}})
        image = {"type": "image_url", "image_url": {"url": "http://example.com/cat.png"}}
        assert gateway.ask("llama3").status_code == 200
        gateway.ask("llama3", messages=[{"role": "user", "content": [image]}])
        gateway.ask("no-such-model")
        with gateway.stream("llama3") as answer:
            assert "[DONE]" in answer.read().decode()
        with gateway.client() as client:
            for path, body in (
                ("/v1/embeddings", {"model": "nomic-embed-text", "input": "hi"}),
                ("/v1/completions", {"model": "llama3", "prompt": "hi", "max_tokens": 2}),
            ):
                assert client.post(path, json=body).status_code == 200
    finally:
        gateway.stop()
        node.stop()
    seen = set(watched.read_text().splitlines())
    known = {address for _, address in gateway.ever_declared}
    strangers = {line for line in seen if not any(repr(address) in line for address in known)}
    assert any("connect" in line and node.address in line for line in seen)
    assert strangers == set()


def test_an_order_to_stop_lets_an_open_stream_end(tmp_path: Path, make_nodes) -> None:
    (node,) = make_nodes(["llama3"], time_scale=1.0)
    gateway = Gateway(tmp_path)
    gateway.start()
    gateway.use({"big": {"address": node.address}})
    text = [{"role": "user", "content": "[[tokens=150]]"}]
    with gateway.stream("llama3", messages=text, max_tokens=150) as answer:
        lines = (line for line in answer.iter_lines() if line)
        assert next(lines).startswith("data: ")
        gateway.terminate()
        eventually(lambda: "Shutting down" in gateway.log, "the order is heard")
        assert list(lines)[-1] == "data: [DONE]"
    gateway.stop()
    assert "Traceback" not in gateway.log


def test_the_plugin_needs_nothing_of_the_control_side() -> None:
    script = (
        "import sys, pkgutil, importlib\n"
        "for name in ('pyinfra', 'jarvis_ops', 'lab', 'gevent'): sys.modules[name] = None\n"
        "import litellm_plugins\n"
        "for item in pkgutil.walk_packages(litellm_plugins.__path__, 'litellm_plugins.'):\n"
        "    importlib.import_module(item.name)\n"
    )
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, check=True, timeout=120
    )


@pytest.mark.parametrize("module", ["schema", "names", "tuning", "keys"])
def test_what_the_control_side_uses_loads_no_litellm(module: str) -> None:
    script = (
        "import sys\n"
        "sys.modules['litellm'] = sys.modules['fastapi'] = None\n"
        f"import litellm_plugins.{module}\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)
