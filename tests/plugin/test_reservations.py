"""Slots come back, whatever happens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from litellm_plugins.routing.reservations import Reservations

steps = st.lists(
    st.tuples(st.sampled_from(["big", "small"]), st.sampled_from(["llama3", "mistral"])),
    max_size=20,
)


@given(steps, st.randoms(use_true_random=False))
def test_all_slots_return_in_any_order_and_once(taken: list[tuple[str, str]], random) -> None:
    book = Reservations()
    held = [book.reserve(node, model) for node, model in taken]
    assert book.on_node("big") == sum(node == "big" for node, _ in taken)
    assert book.of_model("small", "mistral") == taken.count(("small", "mistral"))
    random.shuffle(held)
    for reservation in (*held, *held):
        reservation.release()
    assert (book.on_node("big"), book.on_node("small")) == (0, 0)
    assert book.of_model("big", "llama3") == 0
