"""Many facts in one round trip.

pyinfra asks every fact with a command of its own, in the prepare phase and again in the execute
phase. Over SSH the round trips, not the questions, are what a converged fleet waits for. So what a
host's operations are going to ask is gathered once, before the first of them, and an operation
that changes the host makes everybody ask again.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from paramiko import SSHException
from pyinfra.api import FactBase, StringCommand
from pyinfra.api.arguments import CONNECTOR_ARGUMENT_KEYS, pop_global_arguments

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyinfra.api.host import Host

__all__ = ["NotGatheredError", "Question", "ask", "forget", "gather", "question"]

T = TypeVar("T")

_MARK = "@@jarvis-answer@@"
_NO_SUDO = "@@jarvis-no-sudo@@"

_FRESH_SECONDS = 120.0
"""How long an answer is believed: longer than a run takes to come to its operations, shorter than
somebody may leave the plan unconfirmed on the screen."""

_TIMEOUT_SECONDS = 120
"""For a host that took the connection and then hangs, e.g. on a dead disk."""


class NotGatheredError(Exception):
    """The host gave no answers; the message is a sentence that says why."""


@dataclass(frozen=True)
class Question(Generic[T]):
    """A fact and its arguments."""

    fact: type[FactBase[T]]
    arguments: tuple[tuple[str, Any], ...]

    @property
    def command(self) -> str:
        """The shell command that answers it."""
        return str(self.fact().command(**dict(self.arguments)))

    def read(self, lines: list[str]) -> T:
        """Make the answer of the command's output."""
        return self.fact().process(lines) if lines else self.fact.default()


def question(fact: type[FactBase[T]], **arguments: Any) -> Question[T]:  # noqa: ANN401
    """Return a question; arguments must be hashable, since answers are kept by them."""
    return Question(fact, tuple(sorted(arguments.items())))


@dataclass(frozen=True)
class _Snapshot:
    taken_at: float
    answers: dict[Question[Any], Any]


_snapshots: dict[str, _Snapshot] = {}


def gather(host: Host, questions: Iterable[Question[Any]]) -> None:
    """Ask several questions with one command, and keep the answers until `forget`.

    Raises:
        NotGatheredError: the host cannot be asked as root, or does not answer.

    """
    asked = list(dict.fromkeys(questions))
    outputs = _split(_run(host, "\n".join(map(_part, asked))))
    if len(outputs) < len(asked):
        raise NotGatheredError("the host stopped answering in the middle of the questions")
    answers = {item: item.read(lines) for item, lines in zip(asked, outputs, strict=True)}
    _snapshots[host.name] = _Snapshot(time.monotonic(), answers)


def ask(host: Host, asked: Question[T]) -> T:
    """Return the answer that was gathered, or ask now."""
    snapshot = _snapshots.get(host.name)
    is_fresh = snapshot is not None and time.monotonic() - snapshot.taken_at < _FRESH_SECONDS
    if snapshot is not None and is_fresh and asked in snapshot.answers:
        return cast("T", snapshot.answers[asked])
    return host.get_fact(asked.fact, **dict(asked.arguments))


def forget(host: Host) -> None:
    """Drop what was gathered: call it once an operation has changed the host."""
    _snapshots.pop(host.name, None)


def _part(item: Question[Any]) -> str:
    # The last echo ends a line that the command has left open.
    return f"echo {_MARK}; (\n{item.command}\n) </dev/null 2>/dev/null; echo"


def _split(lines: list[str]) -> list[list[str]]:
    answers: list[list[str]] = []
    for line in lines:
        if line == _MARK:
            answers.append([])
        elif answers:
            answers[-1].append(line)
    return [answer[:-1] if answer[-1:] == [""] else answer for answer in answers]


def _run(host: Host, script: str) -> list[str]:
    """Run a script as root and return what it printed.

    pyinfra stops to ask for a password at the terminal where sudo wants one, which nobody answers
    in an automated run. So sudo is called here, in the same round trip, and its refusal is read.
    """
    given, _ = pop_global_arguments(host.state, host, {})
    arguments: dict[str, Any] = {
        key: value for key, value in given.items() if key in CONNECTOR_ARGUMENT_KEYS
    }
    command = f"{script}\ntrue"
    if arguments.get("_sudo") and not arguments.get("_sudo_password"):
        arguments["_sudo"] = False
        command = f"sudo -H -n sh -c {shlex.quote(command)} || echo {_NO_SUDO}"
    try:
        status, output = host.run_shell_command(
            StringCommand(command),
            print_input=host.state.print_fact_input,
            print_output=host.state.print_fact_output,
            **{**arguments, "_timeout": _TIMEOUT_SECONDS},
        )
    except TimeoutError:
        raise NotGatheredError(f"no answer within {_TIMEOUT_SECONDS} seconds") from None
    except (OSError, SSHException) as error:
        raise NotGatheredError(f"the connection broke: {error}") from None
    said = " ".join(output.stderr_lines[-1:])
    if _NO_SUDO in output.stdout_lines:
        raise NotGatheredError(
            f"sudo does not work without a password ({said}); allow it for the SSH user, "
            "or put the password into JARVIS_SUDO_PASSWORD"
        )
    if not status and arguments.get("_sudo_password"):
        raise NotGatheredError(f"sudo does not take the password of JARVIS_SUDO_PASSWORD ({said})")
    if not status:
        raise NotGatheredError(f"commands cannot be run there ({said})")
    return output.stdout_lines
