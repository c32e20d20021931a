"""A fleet of one: this machine is gateway and inference node at once.

Run it there: `pyinfra inventories/single.py deploy.py`.
"""

from jarvis_ops.inventory import groups_of

_FLEET = {
    "ollama": {"version": "0.34.2"},
    "gateway": {"hostname": "localhost"},
    "nodes": {
        "this-machine": {
            "address": "127.0.0.1",
            "connection": "local",
            "roles": ["inference", "gateway"],
            "hardware": {"gpu": "none", "memory_gib": 16},
            "models": ["llama3.2:3b"],
        },
    },
    "models": {"llama3.2:3b": {"category": "fast", "best_for": "quick questions"}},
    "keys": {},
}

globals().update(groups_of(_FLEET))
