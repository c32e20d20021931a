"""Who may ask: the checks of Host and Origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from simulated_server import Server, running_server

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:11434", 200),
        ("127.0.0.1", 200),
        ("192.168.1.10:11434", 200),
        ("[::1]:11434", 200),
        ("node.internal", 200),
        ("node.local:80", 200),
        ("evil.example", 403),
        ("8.8.8.8:11434", 403),
    ],
)
def test_on_loopback_foreign_host_names_are_refused(node: Server, host: str, status: int) -> None:
    answer = node.http.get("/api/version", headers={"host": host})
    assert answer.status_code == status


def test_elsewhere_any_host_name_will_do(tmp_path: Path) -> None:
    with running_server(tmp_path, [], OLLAMA_HOST="0.0.0.0:0") as server:
        answer = server.http.get("/api/version", headers={"host": "evil.example"})
        assert answer.status_code == 200


def test_foreign_origins_are_refused(node: Server) -> None:
    refused = node.http.get("/api/version", headers={"origin": "http://evil.example"})
    assert (refused.status_code, refused.content) == (403, b"")


def test_local_origins_are_named_in_the_answer(node: Server) -> None:
    origin = "http://localhost:3000"
    answer = node.http.get("/api/version", headers={"origin": origin})
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["vary"] == "Origin"
    preflight = node.http.options("/v1/chat/completions", headers={"origin": origin})
    assert preflight.status_code == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]


def test_further_origins_can_be_allowed(tmp_path: Path) -> None:
    with running_server(tmp_path, [], OLLAMA_ORIGINS="https://*.example") as server:
        for origin, status in (("https://ui.example", 200), ("https://ui.test", 403)):
            answer = server.http.get("/api/version", headers={"origin": origin})
            assert answer.status_code == status
