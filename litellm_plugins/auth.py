"""Who asks: keys are compared by their hashes, and no key goes further than this."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from litellm_plugins.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from litellm_plugins.schema import ApiKey

__all__ = ["key_hash", "owner_of"]


def key_hash(key: str) -> str:
    """Return the hash of a key as the inventory holds it.

    Plain sha256 is enough, as a key is 256 random bits and not a password that could be guessed.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def owner_of(headers: Iterable[tuple[bytes, bytes]], keys: Mapping[str, ApiKey]) -> str:
    """Return the name of the key that a request carries, as a bearer token or as ``x-api-key``.

    Raises:
        ApiError: 401 if it carries none, or an unknown one.

    """
    key = _key_in(headers)
    if not key:
        raise ApiError(401, "no API key was given; send it as 'Authorization: Bearer jrv_...'")
    digest = key_hash(key)
    owners = [name for name, known in keys.items() if hmac.compare_digest(known.sha256, digest)]
    if not owners:
        raise ApiError(401, "the API key is not known here")
    return owners[0]


def _key_in(headers: Iterable[tuple[bytes, bytes]]) -> str:
    given = {name: value.decode("latin-1") for name, value in headers}
    scheme, _, token = given.get(b"authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return given.get(b"x-api-key", "").strip()
