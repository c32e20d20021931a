"""A visit to a running endpoint: wait until it is ready, ask it something, show what it has.

    python -m lab.visit URL [MODEL ...]

It runs where the endpoint can be reached, so for a lab of booted hosts in the lab's network. From the
environment it takes JARVIS_KEY, and JARVIS_CA_FILE where the endpoint speaks TLS. The models are
those that should be there; what was pulled a moment ago takes the gateway a moment to find.
"""

from __future__ import annotations

import os
import ssl
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from lab.system import LabError
from litellm_plugins.names import display_model

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["visit"]

_QUESTION = "Why is the sky blue? Answer in one sentence."
_READY_SECONDS = 180
_DISCOVERY_SECONDS = 15
_ANSWER_SECONDS = 600


def visit(
    url: str, key: str, ca_file: str | None, expected: Iterable[str], console: Console
) -> None:
    """Show that the endpoint works and what there is, once the expected models are there.

    Raises:
        LabError: where it does not become ready, or does not answer.

    """
    verify = ssl.create_default_context(cafile=ca_file) if ca_file else True
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, verify=verify, headers=headers, trust_env=False) as client:
        with console.status(f"Waiting for {url}"):
            _wait(client)
            models = _find_models(client, {display_model(model) for model in expected})
        _ask(client, _talkative(models), console)
        console.print(_table_of_nodes(_get(client, "/api/nodes")["nodes"]))
        console.print(_table_of_models(models))


def _wait(client: httpx.Client) -> None:
    limit = time.monotonic() + _READY_SECONDS
    said = ""
    while time.monotonic() < limit:
        try:
            answer = client.get("/health/ready")
        except httpx.TransportError as error:
            said = str(error)
        else:
            if answer.is_success:
                return
            said = answer.text
        time.sleep(0.5)
    raise LabError(f"{client.base_url} is not ready after {_READY_SECONDS} seconds: {said}")


def _find_models(client: httpx.Client, expected: set[str]) -> list[dict[str, Any]]:
    limit = time.monotonic() + _DISCOVERY_SECONDS
    while True:
        models: list[dict[str, Any]] = _get(client, "/api/models")["models"]
        if expected <= {model["name"] for model in models} or time.monotonic() > limit:
            return models
        time.sleep(0.5)


def _get(client: httpx.Client, path: str) -> dict[str, Any]:
    return _read(client.get(path))


def _read(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise LabError(f"{answer.url}: {answer.status_code}: {answer.text}")
    data: dict[str, Any] = answer.json()
    return data


def _talkative(models: list[dict[str, Any]]) -> str:
    """Return the model to ask: a general one if there is one, on as many nodes as possible."""
    able = [model for model in models if model["category"] != "embedding"]
    if not able:
        raise LabError("no node has a model that answers questions")
    best = max(able, key=lambda model: (model["category"] == "general", len(model["nodes"])))
    name: str = best["name"]
    return name


def _ask(client: httpx.Client, model: str, console: Console) -> None:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": _QUESTION}],
        "max_tokens": 96,
    }
    started = time.monotonic()
    with console.status(f"Asking {model}: {_QUESTION}"):
        answer = client.post("/v1/chat/completions", json=body, timeout=_ANSWER_SECONDS)
        text = _read(answer)["choices"][0]["message"]["content"]
    seconds = time.monotonic() - started
    console.print(f"[bold]{client.base_url}[/] was asked: {_QUESTION}", highlight=False)
    console.print(Panel(text.strip(), title=model, title_align="left", expand=False))
    node, reason = answer.headers["x-jarvis-node"], answer.headers["x-jarvis-reason"]
    console.print(f"Answered by [bold]{node}[/] in {seconds:.1f} s: {reason}\n", highlight=False)


def _table_of_nodes(nodes: list[dict[str, Any]]) -> Table:
    versions = sorted({node["ollama"] for node in nodes if node["ollama"]})
    title = f"Nodes, with Ollama {', '.join(versions)}"
    table = _table(title, "node", "address", "tier", "GPU", "slots", "state")
    for node in nodes:
        table.add_row(
            node["name"],
            node["address"],
            node["tier"],
            node["gpu"],
            str(node["slots"]),
            "well" if node["well"] else f"[red]{node['error']}[/]",
        )
    return table


def _table_of_models(models: list[dict[str, Any]]) -> Table:
    table = _table("Models", "model", "category", "best for", "on")
    for model in models:
        on = ", ".join(node["name"] for node in model["nodes"])
        table.add_row(model["name"], model["category"], model["best_for"], on)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def main() -> int:
    """Visit the endpoint that the command line names; return the exit status."""
    try:
        visit(
            sys.argv[1],
            os.environ["JARVIS_KEY"],
            os.environ.get("JARVIS_CA_FILE"),
            sys.argv[2:],
            Console(),
        )
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
