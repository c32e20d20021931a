"""Ollama: its release, its readiness, its models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pyinfra.api import OperationValueError, QuoteString, StringCommand, operation
from pyinfra.context import host

from jarvis_ops.facts.machine import Space, Spaces
from jarvis_ops.facts.ollama import ModelStore, ModelStores, Releases, ReleaseStates, ServerVersion
from jarvis_ops.facts.replies import Replies
from jarvis_ops.facts.snapshot import Question, ask, forget, question
from jarvis_ops.ollama import COMMAND, CURRENT, ROOT, UNIT, Archive
from jarvis_ops.operations.live import run_script
from jarvis_ops.supply import Supply, WantedModel
from litellm_plugins.names import canonical_model

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from pyinfra.api.command import PyinfraCommand

    from litellm_plugins.schema import OllamaRelease

__all__ = [
    "WantedModel",
    "answering",
    "is_installed",
    "missing",
    "models",
    "obtainable",
    "ready",
    "release",
    "releases",
    "shortfalls",
    "spaces",
    "store",
    "tidy",
]

_READY_SECONDS = 90
_JOURNAL_LINES = 20

_STALL_SECONDS = 300
"""Without a byte more of a model for so long, its pull is given up: Ollama itself never does."""

_SILENCE_SECONDS = 3600
"""Ollama says nothing while it checks what it has pulled; on a slow disk that takes many minutes."""


def releases() -> Question[Releases]:
    """Return the question that `release` and `tidy` ask, to gather it ahead."""
    return question(ReleaseStates, root=ROOT, link=COMMAND)


def answering(url: str) -> Question[str | None]:
    """Return the question that `ready` asks, to gather it ahead."""
    return question(ServerVersion, url=url)


def store(path: str) -> Question[ModelStore]:
    """Return the question that `models` asks, to gather it ahead."""
    return question(ModelStores, path=path)


def spaces(path: str) -> Question[dict[str, Space]]:
    """Return the question how much disk is free for releases, and for models in `path`."""
    return question(Spaces, paths=(ROOT, path))


def is_installed(state: Releases, version: str, archives: Sequence[Archive]) -> bool:
    """Return whether a version was installed from these archives and no others."""
    record = state.installed.get(version, {})
    if set(record) != {archive.name for archive in archives}:
        return False
    return all(archive.sha256 in {None, record[archive.name]} for archive in archives)


def shortfalls(
    declared: OllamaRelease,
    archives: Sequence[Archive],
    wanted: Sequence[WantedModel],
    path: str,
    proxies: dict[str, str],
) -> list[str]:
    """Return a sentence for each thing that the host has still to fetch and cannot have.

    Asks the web only if something is missing. Needs curl on the host.
    """
    installed, stored = ask(host, releases()), ask(host, store(path))
    is_complete = is_installed(installed, declared.version, archives)
    supply = Supply(
        version=declared.version,
        release_url=declared.release_url,
        registry_url=declared.registry_url,
        archives=() if is_complete else tuple(archives),
        models=tuple(missing(stored, wanted)),
    )
    if not supply.requests:
        return []
    replies = host.get_fact(Replies, requests=supply.requests, _env=proxies)
    free = ask(host, spaces(path))
    return list(supply.problems(replies, installed, stored, free, path))


@operation()
def obtainable(
    declared: OllamaRelease,
    archives: Sequence[Archive],
    wanted: Sequence[WantedModel],
    path: str,
    proxies: dict[str, str],
) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that what a host has still to fetch can be had and fits on its disk.

    + declared: release of the inventory, with the URLs
    + archives: what the release consists of on this machine
    + wanted: the models
    + path: directory of the model store
    + proxies: environment for the requests
    """
    problems = shortfalls(declared, archives, wanted, path, proxies)
    if not problems:
        host.noop("what is missing can be fetched")
        return
    sentence = "; ".join(problems)
    yield StringCommand("echo", QuoteString(sentence), ">&2;", "exit", "1")


@operation()
def release(
    version: str,
    archives: Sequence[Archive],
    release_url: str,
    proxies: dict[str, str] | None = None,
) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that a release of Ollama is installed and the live one; upgrade and rollback are one.

    Archives are verified before they are unpacked, beside the live release. One that is still
    there is not downloaded again.

    + version: version without the ``v``
    + archives: what the release consists of on this machine, the base first
    + release_url: where ``/v<version>/<archive>`` is downloaded from
    + proxies: environment for the download
    """
    if not archives:
        raise OperationValueError(f"release {version} consists of no archives")
    state = ask(host, releases())
    installed = is_installed(state, version, archives)
    links = list(_links(state, version))
    if installed and not links:
        host.noop(f"Ollama {version} is installed and live")
        return
    if not installed:
        pairs = [word for item in archives for word in (item.name, item.sha256 or "-")]
        arguments = (ROOT, version, f"{release_url}/v{version}", UNIT, *pairs)
        yield run_script("install-release.sh", arguments, proxies)
    for path, target in links:
        yield _link(path, target)
    forget(host)


def _links(state: Releases, version: str) -> Generator[tuple[str, str], None, None]:
    """Yield the links to set, each a path and a target, the one that switches last but one."""
    if state.current != version:
        if state.current in state.installed:
            yield f"{ROOT}/previous", state.current
        yield CURRENT, version
    if state.command != f"{CURRENT}/bin/ollama":
        yield COMMAND, f"{CURRENT}/bin/ollama"


def _link(path: str, target: str) -> StringCommand:
    """Make or replace a link, or a program that is in its place, in one step."""
    new = f"{path}.jarvis-new"
    return StringCommand(
        *("mkdir", "-p", QuoteString(path.rpartition("/")[0]), "&&"),
        *("ln", "-sfn", QuoteString(target), QuoteString(new), "&&"),
        *("mv", "-fT", QuoteString(new), QuoteString(path)),
    )


@operation()
def tidy(version: str) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that no releases are kept but the live one and the one before it, to roll back to.

    + version: the live one
    """
    state = ask(host, releases())
    old = sorted(set(state.installed) - {version, state.previous})
    if not old:
        host.noop("no old releases of Ollama are kept")
        return
    yield StringCommand("rm", "-rf", *(QuoteString(f"{ROOT}/{item}") for item in old))
    forget(host)


@operation()
def ready(version: str, url: str) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that the service answers, with the version that it shall have.

    + version: version without the ``v``
    + url: base URL of the service, as seen from the host
    """
    if ask(host, answering(url)) == version:
        host.noop(f"Ollama {version} answers")
        return
    bounds = (str(_READY_SECONDS), str(_JOURNAL_LINES))
    yield run_script("wait-ready.sh", (url, version, UNIT, *bounds))
    forget(host)


def missing(state: ModelStore, wanted: Sequence[WantedModel]) -> list[WantedModel]:
    """Return the models that are not in the store, not whole, or of another digest."""
    return [item for item in wanted if not _has(state, item)]


def _has(state: ModelStore, wanted: WantedModel) -> bool:
    found = state.models.get(canonical_model(wanted.name).casefold())
    return found is not None and found.is_whole and wanted.digest in {None, found.digest}


@operation()
def models(
    wanted: Sequence[WantedModel], url: str, path: str
) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that models are pulled. Others on the machine are left alone.

    + wanted: the models
    + url: base URL of the service that pulls them, as seen from the host
    + path: directory of its model store
    """
    for item in wanted:
        if item.name != canonical_model(item.name):
            raise OperationValueError(
                f"model {item.name!r} is not in full form; write {canonical_model(item.name)!r}"
            )
    state = ask(host, store(path))
    pulls = missing(state, wanted)
    if not pulls:
        host.noop(f"{len(wanted)} models are pulled")
        return
    yield from _repair(state, path)
    for item in pulls:
        yield _pull(item, url, path)
    forget(host)


def _repair(state: ModelStore, path: str) -> Generator[StringCommand, None, None]:
    """Remove blobs that a power cut has damaged: Ollama would take them for good by their names."""
    damaged = sorted({blob for model in state.models.values() for blob in model.damaged})
    if damaged:
        yield StringCommand("rm", "-f", *(QuoteString(f"{path}/blobs/{blob}") for blob in damaged))
    if state.orphans:
        blobs = [f"{path}/blobs/{blob}" for blob in state.orphans]
        yield run_script("check-blobs.sh", blobs)


def _pull(model: WantedModel, url: str, path: str) -> StringCommand:
    body = json.dumps({"model": model.name, "stream": True})
    arguments = (
        *(url, model.name, body, _manifest(path, model.name), model.digest or "-"),
        *(str(_STALL_SECONDS), str(_SILENCE_SECONDS)),
    )
    return run_script("pull-model.sh", arguments)


def _manifest(path: str, model: str) -> str:
    """Return where Ollama keeps a model's manifest: host, namespace, name and tag in full."""
    name, _, tag = model.rpartition(":")
    parts = name.split("/")
    defaults = ("registry.ollama.ai", "library")
    full = (*defaults[: max(0, 3 - len(parts))], *parts)
    return "/".join((path, "manifests", *full, tag))
