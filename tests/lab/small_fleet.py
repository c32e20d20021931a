"""A small inventory for scenarios: a gateway, a node with a GPU, and one without."""

from jarvis_ops.inventory import groups_of

_FLEET = {
    "ollama": {"version": "0.34.2"},
    "gateway": {"hostname": "small.home.arpa"},
    "nodes": {
        "brain": {"address": "10.20.0.2", "roles": ["gateway"]},
        "fast": {
            "address": "10.20.0.10",
            "hardware": {"gpu": "nvidia", "memory_gib": 64, "vram_gib": 24},
        },
        "slow": {"address": "10.20.0.11", "hardware": {"memory_gib": 16}},
    },
    "groups": {"all-nodes": {"nodes": ["fast", "slow"], "models": ["llama3.2:3b"]}},
    "models": {"llama3.2:3b": {"category": "fast"}},
}

globals().update(groups_of(_FLEET))
