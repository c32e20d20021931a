"""``python -m litellm_plugins.gateway --fleet PATH``: the gateway process."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import uvicorn

from litellm_plugins.fleet_file import FleetFile
from litellm_plugins.schema import FleetError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["main"]

_DRAIN_SECONDS = 30
"""How long open streams may go on after the order to stop."""

_IDLE_SECONDS = 300
"""Longer than the reverse proxy in front keeps an idle connection, which is two minutes for Caddy: if we
closed first, a request could meet the closing and be lost."""

_OFFLINE = (
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS",
    "LITELLM_LOCAL_BLOG_POSTS",
    "LITELLM_LOCAL_MODEL_COST_MAP",
    "LITELLM_LOCAL_POLICY_TEMPLATES",
    "DISABLE_AIOHTTP_TRUST_ENV",
)
"""Switches without which LiteLLM downloads lists at start, or sends requests through a proxy."""

_LITELLM_LOGGERS = ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router")
"""They print with a handler of their own, at level LITELLM_LOG: a page for each request that fails.
What a failure is about, our own log says in one line."""


def main(arguments: list[str] | None = None) -> int:
    """Run the gateway, or check that it would run; return the exit status."""
    options = _options(arguments)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    for name in (__package__, "uvicorn"):
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        fleet_file = FleetFile(options.fleet)
    except FleetError as error:
        return _complain(*(f"{options.fleet}: {line}" for line in error.lines))
    except OSError as error:
        return _complain(str(error))
    app = _application(fleet_file)
    if options.check:
        return asyncio.run(_check(app))
    server = _server(app, options.host, options.port)
    server.run()
    return 0 if server.started else 1


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m litellm_plugins.gateway")
    parser.add_argument("--fleet", type=Path, required=True, help="path of the fleet file, JSON")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=4000, help="port to listen on (%(default)s)")
    parser.add_argument(
        "--check",
        action="store_true",
        help="validate the fleet file, start once on a port that is free, and stop",
    )
    return parser.parse_args(arguments)


def _application(fleet_file: FleetFile) -> ASGIApp:
    os.environ.setdefault("LITELLM_LOG", "CRITICAL")
    os.environ.update(dict.fromkeys(_OFFLINE, "True"))
    os.environ["LITELLM_MODE"] = "PRODUCTION"  # otherwise it reads .env of the working directory
    os.environ["CONFIG_FILE_PATH"] = str(Path(__file__).with_name("litellm.yaml"))
    # LiteLLM does not start without a master key. Nobody knows this one, and no route takes it.
    os.environ["LITELLM_MASTER_KEY"] = f"sk-{secrets.token_urlsafe(32)}"
    from litellm_plugins.app import Application  # noqa: PLC0415 - LiteLLM reads the above at import

    for name in _LITELLM_LOGGERS:
        logging.getLogger(name).propagate = False
    return Application(fleet_file)


def _server(app: ASGIApp, host: str, port: int) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
            timeout_keep_alive=_IDLE_SECONDS,
        )
    )


async def _check(app: ASGIApp) -> int:
    server = _server(app, "127.0.0.1", 0)
    serving = asyncio.create_task(server.serve())
    while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.05)
    if not server.started:
        return _complain("the gateway did not start, see above")
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"http://127.0.0.1:{port}/health/live")
    server.should_exit = True
    await serving
    if response.status_code != httpx.codes.OK:
        return _complain(f"/health/live answered {response.status_code}")
    return 0


def _complain(*lines: str) -> int:
    for line in lines:
        sys.stderr.write(f"{line}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
