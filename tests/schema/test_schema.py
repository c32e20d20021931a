"""What the schema promises: one model for both sides, documented, and importable alone."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from docs import generate
from litellm_plugins import names
from litellm_plugins.schema import Category, Fleet, Gpu, Hardware, Node, Tier, load_fleet
from litellm_plugins.tuning import slots, tuning_of

ROOT = Path(__file__).parents[2]

FIELDS = [
    pytest.param(model, name, id=f"{model.__name__}.{name}")
    for _, model in generate.SECTIONS
    for name in model.model_fields
]


def fleet_with(**node: Any) -> Fleet:
    return load_fleet(
        {
            "ollama": {"version": "0.34.2"},
            "nodes": {
                "one": {"address": "10.0.0.1", "models": ["llama3"], **node},
                "brain": {"address": "10.0.0.2", "roles": ["gateway"]},
            },
        }
    )


@pytest.mark.parametrize(("model", "name"), FIELDS)
def test_every_key_has_a_sentence_and_an_example_that_is_valid(model: Any, name: str) -> None:
    field = model.model_fields[name]
    assert field.description
    assert field.description.endswith(".")
    assert field.examples
    if name != "tls" and "tls" not in model.__name__.lower():
        TypeAdapter(field.annotation).validate_python(field.examples[0])


def test_the_page_of_keys_is_made_from_the_schema() -> None:
    assert generate.PAGE.read_text(encoding="utf-8") == generate.page(), "run `make docs`"


@pytest.mark.parametrize("inventory", ["inventory.py", "inventories/single.py"])
def test_the_inventories_that_we_ship_are_valid(inventory: str) -> None:
    fleet = load_fleet(runpy.run_path(str(ROOT / inventory))["_FLEET"])
    assert load_fleet(fleet.model_dump_json()) == fleet


def test_the_reference_fleet_is_declared() -> None:
    fleet = load_fleet(runpy.run_path(str(ROOT / "inventory.py"))["_FLEET"])
    assert list(fleet.nodes) == [
        "ai-max",
        "ai-mini-x1",
        "dell-micro",
        "jarvis-brain",
        "synologynas",
    ]
    assert fleet.gateway_node[0] == "jarvis-brain"


@pytest.mark.parametrize("module", ["schema", "names", "tuning"])
def test_the_schema_needs_neither_pyinfra_nor_litellm(module: str) -> None:
    code = (
        f"import sys, litellm_plugins.{module}; "
        "print(sorted({'pyinfra', 'litellm', 'jarvis_ops', 'gevent', 'httpx'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@given(
    gpu=st.sampled_from(Gpu),
    memory=st.floats(1, 2048),
    vram=st.floats(0.5, 1024),
    overrides=st.fixed_dictionaries(
        {},
        optional={
            "num_parallel": st.integers(1, 64),
            "context_length": st.integers(512, 262_144),
            "max_loaded_models": st.integers(1, 64),
        },
    ),
)
def test_any_fleet_survives_the_way_to_the_gateway(
    gpu: Gpu, memory: float, vram: float, overrides: dict[str, int]
) -> None:
    hardware = {"gpu": gpu.value, "memory_gib": memory}
    if gpu is not Gpu.NONE:
        hardware["vram_gib"] = vram
    fleet = fleet_with(hardware=hardware, ollama=overrides)
    again = load_fleet(fleet.model_dump_json())
    assert again == fleet
    assert tuning_of(again.nodes["one"]) == tuning_of(fleet.nodes["one"])


@given(vram=st.floats(0.5, 1024), more=st.floats(0, 1024))
def test_more_memory_never_gives_less(vram: float, more: float) -> None:
    small, large = (
        tuning_of(Node(address="10.0.0.1", hardware=Hardware(gpu=Gpu.NVIDIA, vram_gib=gib)))
        for gib in (vram, vram + more)
    )
    assert large.num_parallel >= small.num_parallel
    assert large.context_length >= small.context_length
    assert large.max_loaded_models >= small.max_loaded_models


def test_the_reference_nodes_are_tuned_as_the_docs_say() -> None:
    fleet = load_fleet(runpy.run_path(str(ROOT / "inventory.py"))["_FLEET"])
    big, small, cpu = (tuning_of(fleet.nodes[name]) for name in list(fleet.nodes)[:3])
    assert (big.num_parallel, big.context_length, big.max_loaded_models) == (4, 16384, 4)
    assert (small.num_parallel, small.context_length, small.max_loaded_models) == (2, 8192, 2)
    assert (cpu.num_parallel, cpu.context_length, cpu.max_loaded_models) == (1, 4096, 1)
    assert (big.igpu, small.igpu, cpu.igpu) == (True, True, False)
    assert (big.rocm, small.rocm, cpu.rocm) == (True, True, False)


def test_what_the_inventory_sets_wins_over_what_is_derived() -> None:
    node = fleet_with(ollama={"num_parallel": 7, "kv_cache_type": "q4_0"}).nodes["one"]
    assert tuning_of(node).num_parallel == 7
    assert tuning_of(node).kv_cache_type == "q4_0"
    assert slots(tuning_of(node), "llama") == 7
    assert slots(tuning_of(node), "nomic-bert") == 1


@pytest.mark.parametrize(
    ("hardware", "tier"), [({"gpu": "amd", "vram_gib": 8}, Tier.PRIMARY), ({}, Tier.EDGE)]
)
def test_the_tier_follows_from_the_hardware(hardware: dict[str, Any], tier: Tier) -> None:
    assert fleet_with(hardware=hardware).nodes["one"].effective_tier is tier


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("llama3", "llama3:latest"),
        ("ollama/llama3", "llama3:latest"),
        ("LLAMA3:Latest", "llama3:latest"),
        ("library/llama3:8b", "llama3:8b"),
        ("registry.ollama.ai/library/llama3", "llama3:latest"),
        ("Someone/Model:q4_K_M", "Someone/Model:q4_K_M"),
        ("hf.co/Org/Repo:Q4", "hf.co/Org/Repo:Q4"),
        ("localhost:5000/library/llama3", "localhost:5000/library/llama3:latest"),
    ],
)
def test_one_model_has_one_name(written: str, canonical: str) -> None:
    assert names.canonical_model(written) == canonical
    assert names.canonical_model(canonical) == canonical


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("llama3@ai-max", ("llama3", "ai-max")),
        ("llama3", ("llama3", None)),
        ("qwen2.5-coder:7b@big", ("qwen2.5-coder:7b", "big")),
    ],
)
def test_a_node_can_be_named_behind_the_model(name: str, parts: tuple[str, str | None]) -> None:
    assert names.split_node(name) == parts


@pytest.mark.parametrize(
    ("model", "category", "lightweight"),
    [
        ("nomic-embed-text", Category.EMBEDDING, True),
        ("qwen2.5-coder:7b", Category.CODE, False),
        ("llama3", Category.GENERAL, False),
    ],
)
def test_an_undeclared_model_is_known_by_its_name(
    model: str, category: Category, lightweight: bool
) -> None:
    known = fleet_with().model(model)
    assert (known.category, known.is_lightweight) == (category, lightweight)
