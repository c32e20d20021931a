"""Keys: made, kept as hashes, recognised."""

from __future__ import annotations

import re

import pytest

from litellm_plugins import keys
from litellm_plugins.auth import key_hash, owner_of
from litellm_plugins.errors import ApiError
from litellm_plugins.schema import ApiKey

ALICE, BOB = keys.new_key(), keys.new_key()
KNOWN = {"alice": ApiKey(sha256=key_hash(ALICE)), "bob": ApiKey(sha256=key_hash(BOB))}


def test_a_key_is_256_random_bits_in_text() -> None:
    assert re.fullmatch(r"jrv_[A-Za-z0-9_-]{43}", ALICE)
    assert ALICE != BOB


def test_the_command_prints_a_key_and_the_entry_that_it_fits(capsys) -> None:
    assert keys.main(["carol"]) == 0
    printed = capsys.readouterr().out
    key = re.search(r"jrv_[A-Za-z0-9_-]{43}", printed)
    entry = re.search(r'"carol": \{"sha256": "([0-9a-f]{64})"\}', printed)
    assert key is not None
    assert entry is not None
    assert entry[1] == key_hash(key[0])


@pytest.mark.parametrize("name", ["", "Carol", "a b", "-", "x" * 64])
def test_the_command_refuses_a_name_that_the_inventory_would(capsys, name: str) -> None:
    assert keys.main([name]) == 1
    assert repr(name) in capsys.readouterr().err


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", b"Bearer " + ALICE.encode()),
        (b"authorization", b"bearer  " + ALICE.encode()),
        (b"x-api-key", ALICE.encode()),
    ],
)
def test_the_owner_is_found(header: tuple[bytes, bytes]) -> None:
    assert owner_of([header], KNOWN) == "alice"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Basic " + ALICE.encode())],
        [(b"authorization", b"Bearer " + ALICE[:-1].encode())],
        [(b"authorization", b"Bearer " + key_hash(ALICE).encode())],
        [(b"authorization", "Bearer schlüssel".encode("latin-1"))],
    ],
)
def test_nobody_else_is(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(ApiError) as caught:
        owner_of(headers, KNOWN)
    assert caught.value.status == 401
    assert ALICE[:-1] not in caught.value.message
