"""Before anything is changed: can what is missing be had, is it the right thing, does it fit?"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from jarvis_ops.facts.machine import Space
from jarvis_ops.facts.ollama import ModelStore, Releases
from jarvis_ops.facts.replies import Reply
from jarvis_ops.ollama import ROOT, Archive
from jarvis_ops.supply import Supply, WantedModel

A, B = "a" * 64, "b" * 64
BASE = "ollama-linux-amd64.tar.zst"
GB = 10**9

SUMS = Reply(200, body=f"{A}  ./{BASE}\n{B}  ./other\n".encode())
HEAD = Reply(200, length=2 * GB)
MISSING = Reply(404)

BLOB = {"digest": f"sha256:{'1' * 64}", "size": 4 * GB}
MANIFEST = json.dumps({"config": {"digest": f"sha256:{'2' * 64}", "size": 500}, "layers": [BLOB]})
MODEL = Reply(200, body=MANIFEST.encode())
DIGEST = hashlib.sha256(MANIFEST.encode()).hexdigest()


def supply(**changes: Any) -> Supply:
    return Supply("1.0.0", "https://releases", "https://registry", **changes)


def problems(
    wanted: Supply,
    *replies: Reply,
    free: int = 100 * GB,
    free_for_models: int | None = None,
    releases: Releases | None = None,
    store: ModelStore | None = None,
) -> list[str]:
    shared = free_for_models is None
    spaces = {
        ROOT: Space(1, free),
        "/models": Space(1 if shared else 2, free if shared else free_for_models or 0),
    }
    return list(
        wanted.problems(replies, releases or Releases(), store or ModelStore(), spaces, "/models")
    )


PINNED = supply(archives=(Archive(BASE, A),))
UNPINNED = supply(archives=(Archive(BASE, None),))
WITH_MODEL = supply(models=(WantedModel("llama3:latest"),))


def test_requests_are_for_what_is_missing_only() -> None:
    both = supply(archives=(Archive(BASE, A),), models=(WantedModel("me/m:7b"),))
    assert both.requests == (
        ("GET", "https://releases/v1.0.0/sha256sum.txt"),
        ("HEAD", f"https://releases/v1.0.0/{BASE}"),
        ("GET", "https://registry/v2/me/m/manifests/7b"),
    )
    assert supply().requests == ()


@pytest.mark.parametrize("name", ["hf.co/org/model:q4", "registry.local:5000/library/m:latest"])
def test_other_registries_are_not_asked(name: str) -> None:
    assert supply(models=(WantedModel(name),)).requests == ()


def test_nothing_is_wrong_with_what_can_be_had() -> None:
    assert problems(PINNED, SUMS, HEAD) == []
    assert problems(UNPINNED, SUMS, HEAD) == []
    assert problems(WITH_MODEL, MODEL) == []


def test_release_that_does_not_exist() -> None:
    (said,) = problems(PINNED, MISSING, MISSING)
    assert said == "ollama.version: there is no release 1.0.0 at https://releases"


def test_pinned_checksum_that_is_not_the_releases() -> None:
    (said,) = problems(supply(archives=(Archive(BASE, B),)), SUMS, HEAD)
    assert said == (
        f"ollama.sha256.{BASE}: the inventory says {B}, but the release's sha256sum.txt says {A}"
    )


def test_mirror_without_checksums_will_do_where_all_are_pinned() -> None:
    assert problems(PINNED, MISSING, HEAD) == []
    (said,) = problems(UNPINNED, MISSING, HEAD)
    assert said == "https://releases/v1.0.0/sha256sum.txt answers with status 404"


def test_unpinned_archive_that_the_release_does_not_name() -> None:
    (said,) = problems(UNPINNED, Reply(200, body=b""), HEAD)
    assert said == f"https://releases/v1.0.0/sha256sum.txt does not name {BASE}"


def test_site_that_cannot_be_reached_is_named_with_the_reason() -> None:
    silent = Reply(None, error="curl: (6) Could not resolve host: releases")
    said = problems(PINNED, silent, silent)
    assert len(said) == 2
    assert all("cannot be reached from this node: curl: (6) Could not" in line for line in said)


def test_host_that_stopped_answering_is_a_problem_and_no_crash() -> None:
    assert len(problems(PINNED)) == 2
    assert len(problems(WITH_MODEL)) == 1


def test_model_that_the_registry_does_not_have() -> None:
    (said,) = problems(WITH_MODEL, MISSING)
    assert said.startswith("model 'llama3:latest' is declared for this node, and https://registry")


def test_model_of_another_digest() -> None:
    assert problems(supply(models=(WantedModel("llama3:latest", DIGEST),)), MODEL) == []
    (said,) = problems(supply(models=(WantedModel("llama3:latest", A),)), MODEL)
    assert said == (
        f"models.llama3:latest.digest: the inventory expects {A}, but the registry has {DIGEST}"
    )


def test_archive_needs_room_for_itself_and_for_what_is_in_it() -> None:
    assert problems(PINNED, SUMS, HEAD, free=9 * GB) == []
    (said,) = problems(PINNED, SUMS, HEAD, free=8 * GB)
    assert said == f"too little disk for {ROOT}: 9.0 GB are needed, 8.0 GB are free"


def test_small_sizes_are_told_in_megabytes() -> None:
    (said,) = problems(PINNED, SUMS, Reply(200, length=2_000_000), free=3_500_000)
    assert said.endswith("9.0 MB are needed, 3.5 MB are free")


def test_what_has_come_already_is_not_needed_again() -> None:
    assert problems(PINNED, SUMS, HEAD, free=8 * GB, releases=Releases(incoming=GB)) == []
    assert problems(WITH_MODEL, MODEL, free=3 * GB, store=ModelStore(partial=2 * GB)) == []
    there = ModelStore(blobs={f"sha256-{'1' * 64}": 4 * GB})
    assert problems(WITH_MODEL, MODEL, free=1000, store=there) == []


def test_one_file_system_must_hold_both() -> None:
    both = supply(archives=(Archive(BASE, A),), models=(WantedModel("llama3:latest"),))
    assert problems(both, SUMS, HEAD, MODEL, free=9 * GB, free_for_models=5 * GB) == []
    (said,) = problems(both, SUMS, HEAD, MODEL, free=12 * GB)
    assert said == f"too little disk for {ROOT} and /models: 13.0 GB are needed, 12.0 GB are free"


def test_blobs_that_models_share_are_counted_once() -> None:
    two = supply(models=(WantedModel("a:latest"), WantedModel("b:latest")))
    assert problems(two, MODEL, MODEL, free=5 * GB) == []


def test_strange_manifest_is_left_to_the_pull() -> None:
    assert problems(WITH_MODEL, Reply(200, body=b"[]")) == []
