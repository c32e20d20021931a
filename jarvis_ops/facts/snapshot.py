"""Many facts in one round trip.

pyinfra asks every fact with a command of its own, in the prepare phase and again in the execute
phase. Over SSH the round trips, not the questions, are what a converged fleet waits for, so a
deploy gathers what its operations are going to ask, once, and an operation that changes the host
makes everybody ask again.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pyinfra.api import FactBase
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyinfra.api.host import Host

__all__ = ["Answers", "Question", "ask", "forget", "gather", "question"]

T = TypeVar("T")

_MARK = "@@jarvis-answer@@"

_FRESH_SECONDS = 120.0
"""How long an answer is believed: longer than a run takes to come to its operations, shorter than
somebody may leave the plan unconfirmed on the screen."""


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


class Answers(FactBase[list[list[str]]]):
    """The output lines of several shell commands, run one after the other in one round trip."""

    default = list

    @override
    def command(self, scripts: tuple[str, ...]) -> str:
        return "; ".join(
            f"echo {_MARK}; sh -c {shlex.quote(script)} 2>/dev/null || true" for script in scripts
        )

    @override
    def process(self, output: list[str]) -> list[list[str]]:
        answers: list[list[str]] = []
        for line in output:
            if line == _MARK:
                answers.append([])
            elif answers:
                answers[-1].append(line)
        return answers


@dataclass(frozen=True)
class _Snapshot:
    taken_at: float
    answers: dict[Question[Any], Any]


_snapshots: dict[str, _Snapshot] = {}


def gather(host: Host, questions: Iterable[Question[Any]]) -> None:
    """Ask several questions at once and keep the answers until `forget`."""
    asked = list(dict.fromkeys(questions))
    outputs = host.get_fact(Answers, scripts=tuple(item.command for item in asked))
    _snapshots[host.name] = _Snapshot(
        taken_at=time.monotonic(),
        answers={item: item.read(lines) for item, lines in zip(asked, outputs, strict=False)},
    )


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
