"""``python -m litellm_plugins.keys NAME``: make an API key and the line of the inventory for it."""

from __future__ import annotations

import argparse
import secrets
import sys

from pydantic import TypeAdapter, ValidationError

from litellm_plugins.auth import key_hash
from litellm_plugins.schema import Name

__all__ = ["main", "new_key"]

_BYTES = 32


def new_key() -> str:
    """Return a new key of 256 random bits."""
    return f"jrv_{secrets.token_urlsafe(_BYTES)}"


def main(arguments: list[str] | None = None) -> int:
    """Print a new key and its entry; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m litellm_plugins.keys", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="who will use the key, e.g. alice")
    name = parser.parse_args(arguments).name
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        sys.stderr.write(f"{name!r} is not a name: use a-z, 0-9 and inner hyphens, 63 at most\n")
        return 1
    key = new_key()
    sys.stdout.write(
        f"key for {name}, shown only now: {key}\n"
        f'line for "keys" in inventory.py:  "{name}": {{"sha256": "{key_hash(key)}"}},\n'
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
