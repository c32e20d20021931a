"""Endpoints that no real Ollama has: faults, and what goes on inside."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from lab.simulated_ollama.faults import CONTROL_PREFIX, FaultError
from lab.simulated_ollama.responses import GoJson

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from lab.simulated_ollama.access import Counters
    from lab.simulated_ollama.engine import Engine
    from lab.simulated_ollama.faults import Faults

__all__ = ["ControlApi"]


class ControlApi:
    """The handlers."""

    def __init__(
        self,
        engine: Engine,
        faults: Faults,
        counters: Counters,
        refuse: Callable[[float], None],
    ) -> None:
        self._engine = engine
        self._faults = faults
        self._counters = counters
        self._refuse = refuse

    def routes(self) -> list[Route]:
        """Return the routes of this interface."""
        return [
            Route(f"{CONTROL_PREFIX}faults", self.faults, methods=["GET", "POST"]),
            Route(f"{CONTROL_PREFIX}state", self.state, methods=["GET"]),
        ]

    async def faults(self, request: Request) -> Response:
        """Switch a fault on or off; show the one that is on."""
        if request.method == "POST":
            try:
                data = json.loads(await request.body() or b"{}")
                fault = self._faults.set(data)
            except (FaultError, ValueError, TypeError) as error:
                return GoJson({"error": str(error)}, status_code=HTTPStatus.BAD_REQUEST)
            if fault.mode == "refuse":
                self._refuse(fault.seconds)
        return GoJson(self._shown())

    async def state(self, request: Request) -> Response:
        """Show requests, slots and models."""
        del request
        scheduler = self._engine.scheduler
        return GoJson(
            {
                "simulated": True,
                "node": self._engine.node,
                "in_flight": self._counters.in_flight,
                "requests": self._counters.requests,
                "served": self._counters.served,
                "loads": scheduler.loads,
                "loading": scheduler.loading,
                "queued": scheduler.queued,
                "loaded": [
                    {
                        "model": item.model.name.shortest,
                        "users": item.users,
                        "slots": item.runner.slots,
                        "busy": item.runner.busy,
                        "waiting": item.runner.waiting,
                        "prompt_tokens": item.runner.prompt_tokens,
                        "cached_tokens": item.runner.cached_tokens,
                        "context_length": item.options.num_ctx,
                    }
                    for item in scheduler.loaded
                ],
                "fault": self._shown(),
            }
        )

    def _shown(self) -> dict[str, Any]:
        fault = self._faults.current
        return {
            "mode": fault.mode,
            "tokens": fault.tokens,
            "factor": fault.factor,
            "seconds": fault.seconds,
            "scope": fault.scope,
            "left": self._faults.left,
        }
