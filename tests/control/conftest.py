"""Everything here imports pyinfra, which patches the process for gevent: before all other imports."""

from gevent import monkey

monkey.patch_all()

import dataclasses  # noqa: E402
from typing import Any  # noqa: E402

import yaml  # noqa: E402

from jarvis_ops import gateway, ollama, supply  # noqa: E402
from jarvis_ops.facts import accounts, firewall, machine, managed, replies, units  # noqa: E402
from jarvis_ops.facts import gateway as gateway_facts  # noqa: E402
from jarvis_ops.facts import ollama as ollama_facts  # noqa: E402
from jarvis_ops.operations import managed as managed_operations  # noqa: E402
from litellm_plugins import schema  # noqa: E402

_VALUES: tuple[type, ...] = (
    accounts.Accounts,
    firewall.Firewall,
    gateway.Endpoint,
    gateway.Release,
    gateway_facts.Caddy,
    gateway_facts.Gateway,
    machine.Space,
    managed.DirectoryState,
    managed.FileState,
    managed_operations.ManagedDirectory,
    managed_operations.ManagedFile,
    ollama.Archive,
    ollama_facts.ModelStore,
    ollama_facts.Releases,
    ollama_facts.StoredModel,
    replies.Reply,
    schema.OllamaRelease,
    supply.WantedModel,
    units.UnitState,
)
"""What the YAML cases can write as `!Name {field: value}`."""


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _constructor(kind: type) -> Any:
    def construct(loader: yaml.SafeLoader, node: yaml.MappingNode) -> Any:
        fields = loader.construct_mapping(node, deep=True)
        if dataclasses.is_dataclass(kind):
            fields = {key: _tuples(value) for key, value in fields.items()}
        return kind(**fields)

    return construct


yaml.SafeLoader.add_constructor(
    "!tuple", lambda loader, node: tuple(loader.construct_sequence(node, deep=True))
)
for _kind in _VALUES:
    yaml.SafeLoader.add_constructor(f"!{_kind.__name__}", _constructor(_kind))
