"""Inference nodes: Ollama, closed to all but the gateway, with the declared models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyinfra.api import deploy
from pyinfra.context import host

from jarvis_ops import hardware
from jarvis_ops import ollama as wanted
from jarvis_ops.data import current_fleet, current_node
from jarvis_ops.facts.gpu import GpuStates
from jarvis_ops.facts.machine import machine
from jarvis_ops.facts.snapshot import ask, question
from jarvis_ops.operations import accounts, managed, ollama, packages, units
from jarvis_ops.operations.managed import ManagedDirectory, ManagedFile
from jarvis_ops.supply import WantedModel
from litellm_plugins.tuning import OLLAMA_PORT, tuning_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jarvis_ops.facts.snapshot import Question
    from litellm_plugins.schema import Fleet, Node

__all__ = ["PORTS", "doubts", "inference", "problems", "questions"]

PORTS = {OLLAMA_PORT: wanted.UNIT}
"""Ports of this role and the units that may hold them."""

_PACKAGES = ("zstd",)
_GPU_GROUPS = ("render", "video")
_GPUS = question(GpuStates)


def questions(fleet: Fleet, name: str) -> list[Question[Any]]:
    """Return what `inference` and the checks before it are going to ask of a node."""
    node = fleet.nodes[name]
    path = tuning_of(node).models_path
    return [
        _GPUS,
        ollama.spaces(path),
        packages.installed(_PACKAGES),
        accounts.account(wanted.USER, _GPU_GROUPS),
        managed.directory_states(_directories(node)),
        ollama.releases(),
        managed.states(_files(fleet, name)),
        units.states(wanted.UNIT),
        ollama.answering(wanted.url(node)),
        ollama.store(path),
    ]


def problems(fleet: Fleet, name: str) -> Iterator[str]:
    """Yield a sentence for each reason why this node cannot become what is declared."""
    node = fleet.nodes[name]
    if ask(host, machine()).architecture == "arm64" and wanted.needs_rocm(node):
        yield f"nodes.{name}.hardware.gpu is {node.hardware.gpu.value!r}, and Ollama has no ROCm for arm64"
    elif ask(host, machine()).can_fetch:
        yield from ollama.shortfalls(**_needs(fleet, name))


def doubts(fleet: Fleet, name: str) -> Iterator[str]:
    """Yield a sentence for each thing that works, but probably not as it was meant."""
    node = fleet.nodes[name]
    yield from (f"nodes.{name}.{doubt}" for doubt in hardware.doubts(node, ask(host, _GPUS)))
    upstream = ask(host, ollama.releases()).upstream_store
    if upstream is not None and tuning_of(node).models_path != upstream:
        yield (
            f"models of an earlier installation are in {upstream}; to use them instead of "
            f"downloading anew, set nodes.{name}.ollama.models_path to it"
        )


def _needs(fleet: Fleet, name: str) -> dict[str, Any]:
    node = fleet.nodes[name]
    return {
        "declared": fleet.ollama,
        "archives": _archives(fleet, node),
        "wanted": _models(fleet, name),
        "path": tuning_of(node).models_path,
        "proxies": wanted.proxies(node),
    }


def _archives(fleet: Fleet, node: Node) -> tuple[wanted.Archive, ...]:
    return wanted.archives(fleet.ollama, node, ask(host, machine()).architecture)


def _models(fleet: Fleet, name: str) -> tuple[WantedModel, ...]:
    return tuple(WantedModel(model, fleet.model(model).digest) for model in fleet.models_of(name))


def _directories(node: Node) -> tuple[ManagedDirectory, ...]:
    owned = (wanted.HOME, tuning_of(node).models_path)
    return tuple(
        ManagedDirectory(path, mode="750", user=wanted.USER, group=wanted.USER) for path in owned
    )


def _files(fleet: Fleet, name: str) -> tuple[ManagedFile, ...]:
    node = fleet.nodes[name]
    return (
        ManagedFile(wanted.UNIT_FILE, wanted.unit_text(node, fleet.ollama)),
        ManagedFile(wanted.PROFILE_FILE, wanted.profile_text(node)),
    )


@deploy("Ollama")
def inference() -> None:
    """Install, configure and run Ollama, then pull what is declared."""
    fleet = current_fleet()
    name, node = current_node()
    _install(fleet, name, node)
    _configure(fleet, name)
    _run(fleet, name, node)


def _install(fleet: Fleet, name: str, node: Node) -> None:
    packages.present(name="The packages that it needs are installed", names=_PACKAGES)
    if not ask(host, machine()).can_fetch:
        # Then the checks before any change could not ask the web; by now it can be asked.
        ollama.obtainable(name="What is missing can be fetched", **_needs(fleet, name))
    accounts.system_user(
        name="Its user exists", user=wanted.USER, home=wanted.HOME, groups=_GPU_GROUPS
    )
    managed.directories(name="Its directories are there", wanted=_directories(node))
    ollama.release(
        name="The release is installed and live",
        version=fleet.ollama.version,
        archives=_archives(fleet, node),
        release_url=fleet.ollama.release_url,
        proxies=wanted.proxies(node),
    )


def _configure(fleet: Fleet, name: str) -> None:
    units.without_drop_ins(name="Its unit is ours alone", unit=wanted.UNIT)
    managed.files(name="Its unit is current", wanted=_files(fleet, name))


def _run(fleet: Fleet, name: str, node: Node) -> None:
    version = fleet.ollama.version
    url = wanted.url(node)
    units.running(
        name="It runs as its unit says",
        unit=wanted.UNIT,
        marker=wanted.marker(node, fleet.ollama),
    )
    ollama.ready(name="It answers", version=version, url=url)
    ollama.tidy(name="Old releases are removed", version=version)
    ollama.models(
        name="The models are pulled",
        wanted=_models(fleet, name),
        url=url,
        path=tuning_of(node).models_path,
    )
