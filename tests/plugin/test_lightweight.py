"""Which requests a CPU node may take over."""

from __future__ import annotations

import pytest

from litellm_plugins.routing.lightweight import estimate_prompt_tokens, is_lightweight
from litellm_plugins.schema import Category, Model, Routing

ROUTING = Routing(lightweight_prompt_tokens=50, lightweight_answer_tokens=20)
SHORT = {"messages": [{"role": "user", "content": "hi"}]}
LONG = {"messages": [{"role": "user", "content": "word " * 100}]}

CASES = {
    "short prompt, short answer": ({**SHORT, "max_tokens": 20}, Model(), True),
    "OpenAI's newer name of the limit": ({**SHORT, "max_completion_tokens": 20}, Model(), True),
    "a text completion": ({"prompt": "hi", "max_tokens": 20}, Model(), True),
    "an answer one token too long": ({**SHORT, "max_tokens": 21}, Model(), False),
    "no limit": (SHORT, Model(), False),
    "a limit of null": ({**SHORT, "max_tokens": None}, Model(), False),
    "a limit that is no number": ({**SHORT, "max_tokens": "20"}, Model(), False),
    "a long prompt": ({**LONG, "max_tokens": 1}, Model(), False),
    "long tools": ({**SHORT, "tools": [{"x": "y" * 400}], "max_tokens": 1}, Model(), False),
    "a fast model": (LONG, Model(category=Category.FAST), True),
    "a model declared so": (LONG, Model(lightweight=True), True),
    "a fast model declared otherwise": (
        LONG,
        Model(category=Category.FAST, lightweight=False),
        False,
    ),
}


@pytest.mark.parametrize(("body", "model", "expected"), CASES.values(), ids=CASES.keys())
def test_case(body: dict, model: Model, expected: bool) -> None:
    assert is_lightweight(body, model, ROUTING, is_embedding=False) is expected


def test_embeddings_are_always() -> None:
    assert is_lightweight({"input": "word " * 1000}, Model(), ROUTING, is_embedding=True)


def test_the_estimate_counts_bytes_not_characters() -> None:
    assert estimate_prompt_tokens({"prompt": "字" * 40}) > estimate_prompt_tokens(
        {"prompt": "a" * 40}
    )
