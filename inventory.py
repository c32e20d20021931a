"""The fleet. Edit this file, then run `pyinfra inventory.py deploy.py`.

Every key is explained in docs/nodes.md. A mistake is reported with the key's path, and nothing
is connected to before the whole file is right.
"""

from jarvis_ops.inventory import groups_of

_FLEET = {
    "ollama": {
        "version": "0.34.2",
        "sha256": {
            "ollama-linux-amd64.tar.zst": (
                "e155b83589986d2c581fdbf1381ea3ebdb16549883679cd5a0627f7cdc05b12b"
            ),
            "ollama-linux-arm64.tar.zst": (
                "8edcfe99eb7546d9422cfa8297d341dcd50e090e192ce1a8092a6ab6d182867b"
            ),
        },
    },
    "gateway": {
        "hostname": "jarvis.home.arpa",
        "tls": {"mode": "internal"},
    },
    "nodes": {
        "ai-max": {
            "address": "192.168.1.10",
            "roles": ["inference"],
            "tier": "primary",
            "hardware": {"gpu": "strix-halo", "memory_gib": 128, "vram_gib": 96},
            "models": ["deepseek-r1:14b"],
        },
        "ai-mini-x1": {
            "address": "192.168.1.11",
            "roles": ["inference"],
            "tier": "secondary",
            "hardware": {"gpu": "amd-igpu", "memory_gib": 32, "vram_gib": 16},
        },
        "dell-micro": {
            "address": "192.168.1.12",
            "roles": ["inference"],
            "tier": "edge",
            "hardware": {"gpu": "none", "memory_gib": 16},
            "models": ["nomic-embed-text"],
        },
        "jarvis-brain": {
            "address": "192.168.1.2",
            "roles": ["gateway"],
        },
        "synologynas": {
            "address": "192.168.1.3",
            "roles": ["storage"],
            "storage": {"path": "/srv/jarvis/models"},
        },
    },
    "groups": {
        "gpu": {
            "nodes": ["ai-max", "ai-mini-x1"],
            "models": ["mistral", "qwen2.5-coder:7b"],
        },
        "everywhere": {
            "nodes": ["ai-max", "ai-mini-x1", "dell-micro"],
            "models": ["llama3", "llama3.2:3b"],
        },
    },
    "models": {
        "llama3": {"category": "general", "best_for": "balanced"},
        "mistral": {"category": "general", "best_for": "fast"},
        "deepseek-r1:14b": {"category": "general", "best_for": "reasoning"},
        "qwen2.5-coder:7b": {"category": "code", "best_for": "code"},
        "llama3.2:3b": {"category": "fast", "best_for": "quick questions"},
        "nomic-embed-text": {"category": "embedding", "best_for": "search"},
    },
    # Who may use the endpoint: `make key NAME=alice` prints a key and the line that goes here.
    "keys": {},
}

globals().update(groups_of(_FLEET))
