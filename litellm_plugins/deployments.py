"""LiteLLM's deployments: one for each model on each node, kept as discovery finds them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from litellm.types.router import Deployment, LiteLLM_Params, ModelInfo

from litellm_plugins.schema import Role
from litellm_plugins.tuning import OLLAMA_PORT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from litellm.router import Router

    from litellm_plugins.routing.nodes import NodeStatus
    from litellm_plugins.schema import Fleet

__all__ = ["Deployments"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Target:
    """Where requests for a model on a node go; `timeout` is the seconds without a byte."""

    node: str
    model: str
    name_there: str
    address: str
    timeout: float

    @property
    def id(self) -> str:
        return f"{self.node}/{self.model}"


class Deployments:
    """The deployments that we have made in a router.

    Adding and deleting takes half a millisecond each and a new list is far slower, so only
    differences are applied. A stream on a deleted deployment goes on.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._made: dict[str, _Target] = {}

    def follow(self, fleet: Fleet, statuses: Mapping[str, NodeStatus]) -> None:
        """Make the router's deployments those of the fleet's nodes as they are now.

        A node that does not answer keeps its deployments: its models are known, and not to be had.
        """
        wanted = {target.id: target for target in _targets(fleet, statuses)}
        for identity, target in list(self._made.items()):
            if wanted.get(identity) != target:
                self._router.delete_deployment(id=identity)
                del self._made[identity]
        for identity, target in wanted.items():
            if identity not in self._made:
                self._make(target)

    def _make(self, target: _Target) -> None:
        try:
            self._router.add_deployment(_deployment(target))
        except Exception:  # noqa: BLE001 - one odd model must not keep out the others
            _log.exception("LiteLLM does not take %s on %s", target.model, target.node)
        else:
            self._made[target.id] = target


def _targets(fleet: Fleet, statuses: Mapping[str, NodeStatus]) -> Iterator[_Target]:
    timeout = fleet.routing.first_token_timeout_seconds
    for name, node in fleet.nodes_with(Role.INFERENCE).items():
        if name not in statuses:
            continue
        for model, pulled in statuses[name].models.items():
            yield _Target(name, model, pulled.name, str(node.address), timeout)


def _deployment(target: _Target) -> Deployment:
    return Deployment(
        model_name=target.model,
        litellm_params=LiteLLM_Params(
            # LiteLLM's own Ollama providers call the node from the event loop, without await: one node
            # that hangs would stop the gateway.
            model=f"hosted_vllm/{target.name_there}",
            api_base=f"http://{target.address}:{OLLAMA_PORT}/v1",
            api_key="none",
            timeout=target.timeout,
            stream_timeout=target.timeout,
            max_retries=0,
        ),
        model_info=ModelInfo(id=target.id, node=target.node),
    )
