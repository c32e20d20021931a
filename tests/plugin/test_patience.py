"""How long a node may be silent."""

from __future__ import annotations

import pytest

from litellm_plugins.routing.patience import whole_answer_seconds
from litellm_plugins.schema import Routing

ROUTING = Routing(first_token_timeout_seconds=60)


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"max_tokens": 100}, 80),
        ({}, 60 + 4096 / 5),
        ({"max_tokens": None}, 60 + 4096 / 5),
        ({"max_tokens": 10**9}, 60 + 4096 / 5),
        ({"max_tokens": -1}, 60 + 4096 / 5),
        ({"max_tokens": "9"}, 60 + 4096 / 5),
    ],
)
def test_an_answer_gets_the_time_to_be_written(body: dict, seconds: float) -> None:
    assert whole_answer_seconds(body, ROUTING, context_length=4096) == seconds
