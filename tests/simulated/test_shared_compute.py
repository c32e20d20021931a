"""How streams on one machine slow each other down."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from lab.simulated_ollama.compute import Compute
from lab.simulated_ollama.speeds import batch_speedup


def slowdown(streams: dict[str, int], of: str, profile: str = "cpu") -> float:
    """Return the slowdown of one stream while so many streams per model are at work."""
    compute = Compute(profile, time_scale=1.0)
    with ExitStack() as stack:
        for model, count in streams.items():
            for _ in range(count):
                stack.enter_context(compute.stream(model))
        return compute.slowdown(of)


def test_alone_nothing_slows_down() -> None:
    assert slowdown({"a": 1}, "a") == 1
    assert slowdown({}, "a") == 1


@pytest.mark.parametrize("streams", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("profile", ["strix-halo", "amd-igpu", "cpu"])
def test_streams_of_one_model_share_a_batch(profile: str, streams: int) -> None:
    expected = streams / batch_speedup(profile, streams)
    assert slowdown({"a": streams}, "a", profile) == pytest.approx(expected)
    assert 1 < expected < streams


def test_models_share_the_machine_without_helping_each_other() -> None:
    assert slowdown({"a": 1, "b": 1}, "a") == 2
    assert slowdown({"a": 2, "b": 1}, "b") == 2
    assert slowdown({"a": 2, "b": 1}, "a") == pytest.approx(2 * 2 / batch_speedup("cpu", 2))


def test_stream_that_ends_slows_nobody_down_any_more() -> None:
    compute = Compute("cpu", time_scale=1.0)
    with compute.stream("a"):
        with compute.stream("b"):
            assert compute.slowdown("a") == 2
        assert compute.slowdown("a") == 1
