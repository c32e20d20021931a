"""Facts are gathered with one command, believed for a while, and forgotten after a change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pyinfra.api import Config, FactBase, Inventory, State
from pyinfra.api.connect import connect_all
from pyinfra.api.state import StateStage

from jarvis_ops.facts import snapshot
from jarvis_ops.facts.snapshot import NotGatheredError, ask, forget, gather, question

if TYPE_CHECKING:
    from pyinfra.api.host import Host

MARK = snapshot._MARK


class Words(FactBase[list[str]]):
    """Words that a host says."""

    default = list

    def command(self, about: str) -> str:
        return f"say {about}"

    def process(self, output: list[str]) -> list[str]:
        return output


def host(responses: dict[str, Any], **data: Any) -> Host:
    fake = {"fake_responses": responses, "fake_delay": 0, "fake_delay_jitter": 0, **data}
    inventory = Inventory(([("@fake/one", fake)], {}))
    state = State(inventory=inventory, config=Config())
    state.set_stage(StateStage.Connect)
    connect_all(state)
    found = inventory.get_host("@fake/one")
    forget(found)
    return found


def commands(subject: Host) -> list[str]:
    found: list[str] = subject.connector.executed_commands
    return found


A, B = question(Words, about="a"), question(Words, about="b")


def test_several_questions_are_one_command() -> None:
    subject = host({MARK: [MARK, "one", "two", "", MARK, ""]})
    gather(subject, [A, B, A])
    assert ask(subject, A) == ["one", "two"]
    assert ask(subject, B) == []
    assert len(commands(subject)) == 1


def test_line_without_end_does_not_swallow_the_next_answer() -> None:
    """A command that ends without a newline gets one, and no empty line is added to others."""
    part = snapshot._part(A)
    assert part.endswith("; echo")
    assert snapshot._split([MARK, "one", MARK, "two", ""]) == [["one"], ["two"]]


def test_after_a_change_the_host_is_asked_again() -> None:
    subject = host({MARK: [MARK, "before"], "say a": ["after"]})
    gather(subject, [A])
    forget(subject)
    assert ask(subject, A) == ["after"]


def test_old_answers_are_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = host({MARK: [MARK, "before"], "say a": ["after"]})
    now = [0.0]
    monkeypatch.setattr(snapshot.time, "monotonic", lambda: now[0])
    gather(subject, [A])
    now[0] = snapshot._FRESH_SECONDS - 1
    assert ask(subject, A) == ["before"]
    now[0] = snapshot._FRESH_SECONDS
    assert ask(subject, A) == ["after"]


def test_what_was_not_gathered_is_asked_on_its_own() -> None:
    subject = host({MARK: [MARK, "x"], "say b": ["y"]})
    gather(subject, [A])
    assert ask(subject, B) == ["y"]


@pytest.mark.parametrize(
    ("response", "data", "reason"),
    [
        (
            {"stdout": [snapshot._NO_SUDO], "stderr": ["sudo: a password is required"]},
            {"_sudo": True},
            "sudo does not work without a password (sudo: a password is required)",
        ),
        (
            {"success": False, "stderr": ["sudo: 3 incorrect password attempts"]},
            {"_sudo": True, "_sudo_password": "wrong"},
            "sudo does not take the password of JARVIS_SUDO_PASSWORD",
        ),
        ({"success": False, "stderr": ["no shell"]}, {}, "commands cannot be run there (no shell)"),
        ({"stdout": [MARK, "x"]}, {}, "stopped answering in the middle"),
    ],
)
def test_host_that_cannot_be_asked_says_why(
    response: dict[str, Any], data: dict[str, Any], reason: str
) -> None:
    subject = host({"mktemp": ["/tmp/askpass"], MARK: response}, **data)
    with pytest.raises(NotGatheredError) as raised:
        gather(subject, [A, B])
    assert reason in str(raised.value)


def test_sudo_is_called_without_ever_asking_for_a_password() -> None:
    subject = host({MARK: [MARK, "x"]}, _sudo=True)
    gather(subject, [A])
    (command,) = commands(subject)
    assert command.startswith("sudo -H -n sh -c ")
